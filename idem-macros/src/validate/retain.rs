//! `retain` and `timeout`.

use std::time::Duration;

use syn::{Expr, ExprLit, Lit};

use super::duration::duration;
use super::options::Given;
use super::{scan, value};
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::Retain;
use crate::suggest;

const DEFAULT: Retain = Retain::For(Duration::from_secs(7 * 24 * 60 * 60));

/// Returns how long a completed record answers.
pub(crate) fn retain(given: Option<&Given>, errors: &mut Errors) -> Retain {
    let Some(given) = given else { return DEFAULT };
    if let Expr::Lit(ExprLit { lit: Lit::Bool(said), .. }) = scan::peel_expr(&given.expr) {
        let message = match said.value {
            true => {
                "`retain` cannot be `true`; write how long, such as `retain = \"7d\"`, or `retain = forever`"
            }
            false => "`retain` cannot be `false`; write `retain = none`",
        };
        errors.push(&given.expr, Code::UnknownValue, message);
        return DEFAULT;
    }
    let Some(word) = value::word(&given.expr) else {
        return duration("`retain`", "retain = \"7d\"", &given.expr, errors).map_or(DEFAULT, Retain::For);
    };
    match word.to_string().as_str() {
        "forever" => Retain::Forever,
        "none" => Retain::None,
        other => {
            let instead = suggest::closest(other, &["forever", "none"]).map_or_else(
                || String::from("; write `forever`, `none` or a duration such as `\"7d\"`"),
                |meant| format!("; did you mean `{meant}`?"),
            );
            errors.push(word, Code::UnknownValue, format_args!("`retain` cannot be `{word}`{instead}"));
            DEFAULT
        }
    }
}

/// Returns the limit on the body.
pub(crate) fn timeout(given: Option<&Given>, errors: &mut Errors) -> Option<Duration> {
    given.and_then(|given| duration("`timeout`", "timeout = \"30s\"", &given.expr, errors))
}
