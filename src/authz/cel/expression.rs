//! One CEL expression: compiled and checked when the config is loaded, evaluated against a request.
//!
//! Compiling refuses whatever can be known to be wrong (issue by issue in [`lower`](crate::authz::cel::check)), reports all of it
//! with its place, and can neither panic nor overflow the stack, whatever the text. An evaluation is bounded in steps
//! and in what it makes, and a panic in it is a failed evaluation.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::common::ast::IdedExpr;
use cel::common::types::CelBool;
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, ExecutionError, Value};
use cel_interpreter as cel;

use super::check;
use super::check::Constant;
use super::variables::Visibility;
use super::vars::{Activation, Vars};
use super::{budget, functions, json};

/// The longest source that is taken, in bytes.
pub const MAX_SOURCE_LEN: usize = 4096;
/// The parser descends once for each level, with frames of kilobytes.
const DEEP_STACK_SIZE: usize = 64 << 20;
/// The deepest expression that is evaluated where the request is; a worker has 2 MiB of stack. The engine takes some
/// 2 KiB a level when it is optimised, and 64 KiB when not. What is deeper is rare, and runs on a thread of its own.
const MAX_INLINE_DEPTH: usize = if cfg!(debug_assertions) { 12 } else { 128 };

/// Where an expression stands, and so what it may see and what it must give.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// An authorization rule: everything but `response`; gives true or false.
    Rule,
    /// The match of a route, which is judged before the token is: `request` and `source`; gives true or false.
    RouteMatch,
    /// A transformation or a log field: everything, and the caller's own variables; gives any value.
    Value {
        /// Names of further variables, given in [`Vars::extra`].
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

    pub(crate) fn hidden_reason(&self) -> &'static str {
        match self {
            Scope::RouteMatch => "a route is chosen before the token is judged: only `request` and `source` are known",
            _ => "rules run before the backend has answered",
        }
    }
}

/// Something wrong with an expression's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// Where, in bytes from the start of the source.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it, when that is known.
    pub hint: Option<String>,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Why an evaluation gave no value. The text is for a rule's author, and holds no value of a claim or a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvalError {
    /// A claim, header, field or element is not there.
    Missing(String),
    /// An operator or a function can't be applied to the types that it met.
    Type(String),
    /// A function refused its arguments.
    Function(String),
    /// The result is of another type than the place needs.
    Result(String),
    /// The step limit was reached.
    Steps,
    /// The evaluation would have made more than it may.
    Size,
    /// The engine panicked. A defect, and never an answer.
    Panicked,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(text) | Self::Type(text) | Self::Function(text) | Self::Result(text) => f.write_str(text),
            Self::Steps => write!(f, "the evaluation takes more than {} steps", budget::MAX_STEPS),
            Self::Size => f.write_str("the evaluation makes more than 1 MiB of values"),
            Self::Panicked => f.write_str("the evaluation broke off"),
        }
    }
}

impl std::error::Error for EvalError {}

/// A compiled expression. It is shared by all requests and holds nothing of any.
#[derive(Debug)]
pub struct Expression {
    source: Box<str>,
    pub(crate) ast: IdedExpr,
    constants: Vec<Constant>,
    unguarded_reads: Vec<String>,
    needs_deep_stack: bool,
}

impl Expression {
    /// Compiles one expression. For many at once, call this inside [`with_big_stack`], which saves the threads.
    ///
    /// # Errors
    /// All faults that were found, in the order of the source; a syntax error stands alone.
    pub fn compile(source: &str, scope: Scope<'_>) -> Result<Self, Vec<CompileError>> {
        with_deep_stack(|| compile(source, &scope)).unwrap_or_else(|reason| Err(vec![compile_error(0, reason)]))
    }

    /// Compiles a whole config's expressions, on one thread.
    pub fn compile_all(sources: &[(&str, Scope<'_>)]) -> Vec<Result<Self, Vec<CompileError>>> {
        with_deep_stack(|| sources.iter().map(|(source, scope)| Self::compile(source, *scope)).collect())
            .unwrap_or_else(|reason| sources.iter().map(|_| Err(vec![compile_error(0, reason)])).collect())
    }

    /// The source, as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The claims and headers that this reads without a `has()`, `in`, `?` or `default()` for the same path: where one
    /// is absent, an evaluation fails.
    pub fn unguarded_reads(&self) -> &[String] {
        &self.unguarded_reads
    }

    /// Evaluates a condition.
    ///
    /// # Errors
    /// Anything but true and false.
    pub fn eval_bool(&self, vars: &Vars<'_>) -> Result<bool, EvalError> {
        self.eval_bool_in(&Activation::new(vars))
    }

    /// Evaluates to JSON: timestamps in RFC 3339, durations as `1.5s`, bytes in base64.
    ///
    /// # Errors
    /// When the evaluation fails, and for a value that JSON has no form for.
    pub fn eval_json(&self, vars: &Vars<'_>) -> Result<serde_json::Value, EvalError> {
        self.eval(&Activation::new(vars), |val| {
            json::to_json(val.as_ref())
                .ok_or_else(|| EvalError::Result(format!("a {} can't be written as JSON", val.get_type().name())))
        })
    }

    pub(crate) fn eval_bool_in(&self, activation: &Activation<'_>) -> Result<bool, EvalError> {
        self.eval(activation, |val| match val.downcast_ref::<CelBool>() {
            Some(bool) => Ok(*bool.inner()),
            None => Err(EvalError::Result(format!("the result is a {}, not true or false", val.get_type().name()))),
        })
    }

    fn eval<T: Send>(
        &self,
        view: &Activation<'_>,
        convert: impl for<'e, 'v> FnOnce(CowVal<'e, 'v>) -> Result<T, EvalError> + Send,
    ) -> Result<T, EvalError> {
        match self.needs_deep_stack {
            true => with_deep_stack(|| self.eval_on_this_thread(view, convert)).unwrap_or(Err(EvalError::Panicked)),
            false => self.eval_on_this_thread(view, convert),
        }
    }

    fn eval_on_this_thread<T>(
        &self,
        view: &Activation<'_>,
        convert: impl for<'e, 'v> FnOnce(CowVal<'e, 'v>) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        let resolver = Resolver { activation: Some(view), constants: &self.constants };
        eval_ast(&self.ast, &resolver, convert)
    }
}

/// Evaluates what reads nothing.
pub(crate) fn eval_constant<T>(
    ast: &IdedExpr,
    constants: &[Constant],
    convert: impl for<'e, 'v> FnOnce(CowVal<'e, 'v>) -> Result<T, EvalError>,
) -> Result<T, EvalError> {
    eval_ast(ast, &Resolver { activation: None, constants }, convert)
}

fn eval_ast<T>(
    ast: &IdedExpr,
    resolver: &Resolver<'_, '_>,
    convert: impl for<'e, 'v> FnOnce(CowVal<'e, 'v>) -> Result<T, EvalError>,
) -> Result<T, EvalError> {
    budget::start();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut context = Context::with_env(functions::env());
        context.set_variable_resolver(resolver);
        match Value::resolve_val(ast, &context) {
            Ok(val) => convert(val),
            Err(error) => Err(describe_error(error, resolver.activation)),
        }
    }));
    match budget::exceeded() {
        Some(error) => Err(error),
        None => result.unwrap_or(Err(EvalError::Panicked)),
    }
}

/// What the engine asks for names.
struct Resolver<'s, 'a> {
    activation: Option<&'s Activation<'a>>,
    constants: &'s [Constant],
}

impl VariableResolver for Resolver<'_, '_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(index) = name.strip_prefix('@').and_then(|at| at.parse::<usize>().ok()) {
            return self.constants.get(index).map(|constant| CowVal::Borrowed(constant.val()));
        }
        self.activation?.get(name)
    }
}

/// The engine's error in words that name types and names, and never a value of the request.
fn describe_error(error: ExecutionError, activation: Option<&Activation<'_>>) -> EvalError {
    use ExecutionError as E;
    match error {
        E::UndeclaredReference(name) => EvalError::Missing(match activation {
            Some(view) => view.missing_reason(&name),
            None => format!("there is no `{}`", printable(&name)),
        }),
        E::NoSuchKey(key) => EvalError::Missing(format!("there is no `{}`", printable(&key))),
        E::IndexOutOfBounds(_) => EvalError::Missing("the list has no element at that index".to_owned()),
        E::NoSuchOverload(overload) => {
            let name = overload.function().trim_matches(['_', '@']);
            EvalError::Type(format!("`{name}` can't be applied to ({})", overload.argument_types().join(", ")))
        }
        E::UnexpectedType { got, want } => EvalError::Type(format!("found a {got} where a {want} is needed")),
        E::UnsupportedBinaryOperator(name, a, b) => {
            EvalError::Type(format!("`{name}` can't be applied to ({}, {})", a.type_of(), b.type_of()))
        }
        E::ValuesNotComparable(a, b) => {
            EvalError::Type(format!("a {} can't be compared with a {}", a.type_of(), b.type_of()))
        }
        E::FunctionError { function, message } => EvalError::Function(format!("{function}: {}", printable(&message))),
        E::DivisionByZero(_) | E::RemainderByZero(_) => EvalError::Function("a division by zero".to_owned()),
        E::Overflow(..) => EvalError::Function("a number too large for its type".to_owned()),
        E::UnsupportedKeyType(key) => EvalError::Type(format!("a {} can't be a map's key", key.type_of())),
        E::DuplicateKey(_) => EvalError::Function("a map with the same key twice".to_owned()),
        _ => EvalError::Function("the engine refused this evaluation".to_owned()),
    }
}

/// A name or a message, short and without control characters: some of it may come from the request.
fn printable(text: &str) -> String {
    let mut short: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect();
    if text.chars().nth(200).is_some() {
        short.push('…');
    }
    short
}

fn compile_error(offset: usize, message: impl Into<String>) -> CompileError {
    CompileError { offset, message: message.into(), hint: None }
}

fn compile(source: &str, scope: &Scope<'_>) -> Result<Expression, Vec<CompileError>> {
    if source.len() > MAX_SOURCE_LEN {
        let mut error = compile_error(MAX_SOURCE_LEN, format!("longer than {MAX_SOURCE_LEN} bytes"));
        error.hint = Some("split it into several".to_owned());
        return Err(vec![error]);
    }
    if source.trim().is_empty() {
        return Err(vec![compile_error(0, "the expression is empty")]);
    }
    // Fields in backticks, as cel-go has them: request.headers.`x-env`.
    let parser = functions::env().parser().enable_ident_escape_syntax(true);
    let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse_with_source_info(source)));
    match parsed {
        Ok(Ok((ast, info))) => {
            let check::CheckedExpr { expr, constants, unguarded_reads: unguarded } = check::check(ast, &info, scope)?;
            Ok(Expression {
                source: source.into(),
                needs_deep_stack: check::depth(&expr) > MAX_INLINE_DEPTH,
                ast: expr,
                constants,
                unguarded_reads: unguarded,
            })
        }
        // The first error is the true one; those after it come from the parser's attempts to go on.
        Ok(Err(errors)) => Err(vec![match errors.errors.into_iter().next() {
            Some(error) => syntax_error(source, error.pos, &error.msg),
            None => compile_error(0, "not an expression"),
        }]),
        Err(panic) => Err(vec![compile_error(0, panic_message(panic.as_ref()))]),
    }
}

fn syntax_error(source: &str, (line, column): (isize, isize), message: &str) -> CompileError {
    let line_start: usize =
        source.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0)).map(str::len).sum();
    // Lines and columns count from 1.
    let column = usize::try_from(column - 1).unwrap_or(0);
    let line_text = source.get(line_start..).unwrap_or_default();
    let column_offset = line_text.char_indices().nth(column).map_or(line_text.len(), |(at, _)| at);
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting ").next().unwrap_or(message);
    compile_error((line_start + column_offset).min(source.len()), format!("not CEL: {}", printable(message)))
}

fn panic_message(_panic: &(dyn Any + Send)) -> &'static str {
    "the parser can't read this expression"
}

thread_local! {
    static ON_DEEP_STACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on a thread whose stack no expression can overflow, for compiling; a call inside of it starts no other thread.
///
/// # Errors
/// When the thread can't be started, or `work` panics.
pub fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, &'static str> {
    if ON_DEEP_STACK.get() {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cel".to_owned()).stack_size(DEEP_STACK_SIZE);
        let work = || {
            ON_DEEP_STACK.set(true);
            work()
        };
        match thread.spawn_scoped(scope, work) {
            Ok(handle) => handle.join().map_err(|_| "the work broke off"),
            Err(_) => Err("no thread could be started"),
        }
    })
}
