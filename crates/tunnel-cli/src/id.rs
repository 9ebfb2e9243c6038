//! `tunnel id`.

use crate::arguments::Id;
use crate::failure::Failure;
use crate::report::Report;
use serde_json::json;
use tunnel_wasm::{Identity, IdentityError};

pub(crate) fn run(arguments: &Id, report: &Report) -> Result<(), Failure> {
    let (id, path) = match Identity::named(&arguments.name) {
        Ok(identity) => (identity.id(), identity.path().to_owned()),
        // It is there, and may be looked at.
        Err(IdentityError::InUse(path)) => (Identity::look_at(&path).map_err(failure)?, path),
        Err(error) => return Err(failure(error)),
    };
    let id = id.to_string();
    report.result(&id, &json!({ "id": id, "name": arguments.name, "file": path }));
    Ok(())
}

/// Takes an identity by its name.
pub(crate) fn take(name: &str) -> Result<Identity, Failure> {
    Identity::named(name).map_err(failure)
}

fn failure(error: IdentityError) -> Failure {
    match error {
        IdentityError::Name(_) => Failure::Usage(error.to_string()),
        error => Failure::Local(error.to_string()),
    }
}
