"""The chest CT screener: receive, assemble, segment, classify, vote, report, deliver, audit."""
