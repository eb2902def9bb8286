//! Authentication: from the credentials on a request to an identity, or the reason why there is none.
