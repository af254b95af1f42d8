"""Emotions in faces for zoo: networks for pictures and clips, and data."""

#: The classes, in the order of the outputs.
EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
