"""The conformance gate: result objects under every validator at hand and our own rules.

For the test suite and for a site that wants to know what it received. Reads files and nothing
else: no node, no database, no settings.
"""

from screener.conformance.allowances import ALLOWANCES
from screener.conformance.gate import check_folder
from screener.conformance.programs import find_program
from screener.conformance.rules import report_violations
from screener.conformance.segment_rules import pair_violations
from screener.conformance.validators import VALIDATORS
from screener.conformance.verdict import Check, CheckState, Verdict

__all__ = [
    "ALLOWANCES",
    "VALIDATORS",
    "Check",
    "CheckState",
    "Verdict",
    "check_folder",
    "find_program",
    "pair_violations",
    "report_violations",
]
