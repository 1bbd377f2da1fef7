"""Verb `linear`: SVM, logistic regression and nearest neighbors on exported features."""
