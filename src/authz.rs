//! Authorization: CEL rules over the request and the claims, and which of them decided.
