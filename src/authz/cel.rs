//! TODO-DOC

pub(crate) mod budget;
pub(crate) mod check;
pub(crate) mod expression;
pub(crate) mod facts;
pub(crate) mod functions;
pub(crate) mod json;
pub(crate) mod macros;
pub(crate) mod types;
pub(crate) mod variables;
pub(crate) mod vars;
