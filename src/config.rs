//! The configuration as it was written: the file, its types, and every error in it with its place.
