"""Stand-in until the decoder lands."""

UNCHANGED = object()
