"""The version, alone in its file so that every part may name it."""

VERSION = "0.1.0"

#: PS3.7 D.3.3.2: names this implementation in every association and file we write.
IMPLEMENTATION_CLASS_UID = "2.25.26303050905037481045211788075002837377"

#: PS3.7 D.3.3.2: at most 16 characters.
IMPLEMENTATION_VERSION_NAME = f"SCREENER_{VERSION}"[:16]
