"""One image of a study that was not analysed, so that people see what came.

Only original CT images: screenshots and scanned documents can have a name burned in.
"""

from collections.abc import Iterator, Sequence

from screener.assemble.codecs import decode_frame
from screener.assemble.decoders import FrameDecoder
from screener.assemble.headers import CT_SOP_CLASS_UIDS, InstanceHeader, SliceHeader
from screener.assemble.pixels import read_frame_hu
from screener.domain import Preview, SeriesRanking
from screener.errors import UnreadablePixels

#: Images that are tried before the study is shown without one.
_MOST_TRIES = 3
#: First value of Image Type (0008,0008) of what the scanner itself measured.
_ORIGINAL = "ORIGINAL"


def preview_study(
    headers: Sequence[InstanceHeader], ranking: SeriesRanking, decode: FrameDecoder = decode_frame
) -> Preview | None:
    """Give the middle image of the best series that has one, None where none can be shown."""
    tries = 0
    for number, candidate in enumerate(ranking.candidates, start=1):
        images = list(_showable(headers, candidate.series_instance_uid))
        if not images:
            continue
        middle = len(images) // 2
        try:
            image_hu, _ = read_frame_hu(images[middle], decode)
        except UnreadablePixels:
            tries += 1
            if tries >= _MOST_TRIES:
                break
            continue
        caption = f"Image {middle + 1} of {len(images)} of series {number}"
        return Preview(image_hu, images[middle].frame.pixel_spacing_mm, caption)
    return None


def _showable(headers: Sequence[InstanceHeader], series_instance_uid: str) -> Iterator[SliceHeader]:
    """Give the original CT frames of a series in the order of their Instance Number."""
    of_series = [
        one
        for one in headers
        if one.instance.series_instance_uid == series_instance_uid
        and one.instance.sop_class_uid in CT_SOP_CLASS_UIDS
        and one.unreadable is None
    ]
    in_order = sorted(of_series, key=lambda one: (one.instance_number or 0, one.instance.path))
    for header in in_order:
        for frame in header.frames:
            if frame.image_type[:1] == (_ORIGINAL,):
                yield SliceHeader(header, frame)
