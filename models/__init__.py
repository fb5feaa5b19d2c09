"""What a model is: manifests, sessions, shipped weights, training. Knows nothing of DICOM."""
