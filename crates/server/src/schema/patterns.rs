//! Patterns that rules match texts against, compiled once.
//!
//! CEL's own `matches` compiles its pattern at every call, which costs far more than matching. Here
//! a call with a literal pattern becomes one of a function that finds the pattern compiled. Anything
//! else, a bad pattern too, is left to CEL's own. There are as many patterns as our rules have.

use cel::Env;
use cel::common::ast::{CallExpr, Expr, LiteralValue};
use cel::common::types::{CelBool, CelString};
use cel::parser::Macro;
use regex::Regex;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// What a call of `matches` with a literal pattern becomes; no rule can write it.
const FUNCTION: &str = "@matches";

static COMPILED: RwLock<Option<HashMap<String, Regex>>> = RwLock::new(None);

/// Makes an environment's programs match by compiled patterns.
pub(super) fn extend(environment: &mut Env) {
    // Declared on an environment that has neither: they cannot clash.
    drop(environment.add_macro(Macro::receiver(
        "matches",
        1,
        |helper, target, arguments| {
            let pattern = match arguments.first().map(|one| &one.expr) {
                Some(Expr::Literal(LiteralValue::String(text))) => text.inner().to_owned(),
                _ => return Ok(None),
            };
            let Ok(compiled) = Regex::new(&pattern) else {
                return Ok(None);
            };
            let mut known = COMPILED.write().unwrap_or_else(PoisonError::into_inner);
            known
                .get_or_insert_with(HashMap::new)
                .insert(pattern, compiled);
            Ok(Some(helper.next_expr(Expr::Call(CallExpr {
                func_name: FUNCTION.to_owned(),
                target: target.take().map(Box::new),
                args: std::mem::take(arguments),
            }))))
        },
    )));
    drop(cel::add_member_overload!(
        environment,
        fn matches: (CelString<'_>, CelString<'_>) -> CelBool,
        name = FUNCTION,
    ));
}

fn matches(text: &CelString<'_>, pattern: &CelString<'_>) -> CelBool {
    let known = COMPILED.read().unwrap_or_else(PoisonError::into_inner);
    let found = known.as_ref().and_then(|known| known.get(pattern.inner()));
    CelBool::from(found.is_some_and(|pattern| pattern.is_match(text.inner())))
}
