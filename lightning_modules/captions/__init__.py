"""Captions: vocabulary, pretrained word vectors, decoder, search and sampling of captions, metrics."""
