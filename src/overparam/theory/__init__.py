"""The theorems, one a file, and the certificates made of them."""
