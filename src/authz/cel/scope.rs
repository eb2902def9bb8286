//! Scopes: the variables that an expression may use, and the type of result that it must return, by its use in the
//! config.

/// The expressions that may use a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Every expression.
    Always,
    /// Expressions that run after authentication, which excludes the match of a route.
    AfterAuth,
    /// Expressions that compute values: transformations and log fields.
    ValuesOnly,
}

/// The use of an expression, which determines the variables that it may read and the type of its result.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// An authorization rule: may read every variable except `response`; returns true or false.
    Rule,
    /// The match of a route, evaluated before authentication: may read `request` and `source`; returns true or false.
    RouteMatch,
    /// A transformation or a log field: may read every variable, and those of its caller; returns any value.
    Value {
        /// Names of additional variables, passed in [`Vars::extra`](super::vars::Vars::extra).
        extra: &'a [&'a str],
    },
}

impl<'a> Scope<'a> {
    pub(crate) fn can_see(&self, visibility: Visibility) -> bool {
        match self {
            Scope::RouteMatch => visibility == Visibility::Always,
            Scope::Rule => visibility != Visibility::ValuesOnly,
            Scope::Value { .. } => true,
        }
    }

    pub(crate) fn extra(&self) -> &'a [&'a str] {
        match self {
            Scope::Value { extra } => extra,
            _ => &[],
        }
    }

    pub(crate) fn is_condition(&self) -> bool {
        !matches!(self, Scope::Value { .. })
    }

    /// Explains to the author of an expression why a variable of a narrower visibility is not available.
    pub(crate) fn hidden_reason(&self) -> &'static str {
        match self {
            Scope::RouteMatch => {
                "a route is chosen before the token is verified: only `request` and `source` are available"
            }
            _ => "rules run before the backend has responded",
        }
    }
}
