"""C3D, I3D, CNN+LSTM, pretrained networks of other libraries, Video2Vec and the video captioner."""
