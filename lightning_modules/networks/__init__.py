"""C3D, I3D, CNN+LSTM, Video2Vec and the video captioner."""
