//! `adopt(...)`: errors that mean that the work is done already.

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{ExprLit, Lit, LitStr, Pat, PatIdent, PatTupleStruct};

use super::params::Params;
use super::scan;
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::{Adopt, AdoptCase, Kind, RawArm};

/// Checks every case and finds the parameters that it names.
pub(crate) fn adopt(
    arms: &[RawArm],
    kind: Option<&Kind>,
    params: &Params,
    errors: &mut Errors,
) -> Vec<Adopt> {
    arms.iter().filter_map(|arm| adopt_one(arm, kind, params, errors)).collect()
}

fn adopt_one(arm: &RawArm, kind: Option<&Kind>, params: &Params, errors: &mut Errors) -> Option<Adopt> {
    let case = match &arm.pat {
        Pat::TupleStruct(pat)
            if pat.path.is_ident("constraint") && matches!(kind, Some(Kind::Leased { .. })) =>
        {
            let message = "`constraint` cannot stand on a leased job, which has no transaction to undo; \
                           write `adopt(pattern => value)`, or insert in a `run.tx_step(...)`";
            errors.push(pat, Code::ConstraintOnLeasedJob, message);
            return None;
        }
        Pat::TupleStruct(pat) if pat.path.is_ident("constraint") => constraint(pat, arm, errors)?,
        pat if arm.guard.is_none() && takes_all(pat) => {
            let message =
                "this would adopt every error, also of work that was not done; name the error that means it";
            errors.push(pat, Code::AdoptOfEverything, message);
            return None;
        }
        pat => AdoptCase::Pattern { pat: pat.clone(), guard: arm.guard.clone() },
    };
    let Some(value) = &arm.value else {
        let message = "`adopt` must say what to return instead of the error; write `adopt(pattern => value)`";
        errors.push(&arm.pat, Code::AdoptWithoutValue, message);
        return None;
    };
    let mut tokens = value.to_token_stream();
    arm.guard.to_tokens(&mut tokens);
    let uses = names_in(&tokens, &arm.pat, params);
    Some(Adopt { case, value: value.clone(), uses })
}

fn constraint(pat: &PatTupleStruct, arm: &RawArm, errors: &mut Errors) -> Option<AdoptCase> {
    if let Some(guard) = &arm.guard {
        errors.push(
            guard,
            Code::ConstraintWithCondition,
            "`constraint` takes no condition; write `adopt(pattern if condition => value)`",
        );
        return None;
    }
    match constraint_name(pat) {
        Some(name) if name.value().trim().is_empty() => {
            errors.push(
                &name,
                Code::ConstraintName,
                "`constraint` must not be empty; write `constraint(\"index_name\")`",
            );
            None
        }
        Some(name) => Some(AdoptCase::Constraint(name)),
        None => {
            let message = "`constraint` takes the name of a unique index; write `constraint(\"index_name\")`";
            errors.push(pat, Code::ConstraintName, message);
            None
        }
    }
}

fn constraint_name(pat: &PatTupleStruct) -> Option<LitStr> {
    match (pat.elems.first()?, pat.elems.len()) {
        (Pat::Lit(ExprLit { lit: Lit::Str(name), .. }), 1) => Some(name.clone()),
        _ => None,
    }
}

/// Tells whether a pattern on its own matches everything; a name in capitals is a constant or a variant.
fn takes_all(pat: &Pat) -> bool {
    match pat {
        Pat::Wild(_) => true,
        Pat::Ident(PatIdent { subpat: Some((_, pat)), .. }) => takes_all(pat),
        Pat::Ident(pat) => !pat.ident.unraw().to_string().starts_with(char::is_uppercase),
        Pat::Paren(pat) => takes_all(&pat.pat),
        Pat::Reference(pat) => takes_all(&pat.pat),
        Pat::Or(pat) => pat.cases.iter().any(takes_all),
        _ => false,
    }
}

/// Returns the parameters that the tokens name, unless the pattern gives the name to something else.
fn names_in(tokens: &TokenStream, pat: &Pat, params: &Params) -> Vec<Ident> {
    let pat = pat.to_token_stream();
    let args = params.args.iter().map(|arg| &arg.ident);
    args.chain(&params.state_names)
        .chain(&params.handle_name)
        .filter(|name| scan::mentions(tokens.clone(), name) && !scan::mentions(pat.clone(), name))
        .cloned()
        .collect()
}
