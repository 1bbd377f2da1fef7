"""Verb `publish`: a checkpoint as a model repository of the Hugging Face Hub, with its model card."""
