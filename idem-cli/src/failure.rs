//! Why a command failed, and what to do about it.

use std::process::ExitCode;

use idem_runtime::{StoreError, StoreErrorKind};

use crate::args::Options;

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    what: String,
}

impl Failure {
    /// It could not be done.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Failure { code: 1, what: what.into() }
    }

    /// It was asked for in a way that cannot be, or there was nobody to ask.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Failure { code: 2, what: what.into() }
    }

    /// The key is not as the caller believes.
    pub(crate) fn stale(what: impl Into<String>) -> Self {
        Failure { code: 3, what: what.into() }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// Returns the message without the password of the database.
    pub(crate) fn redacted(&self, options: &Options) -> String {
        let url = crate::open::url(options);
        match url.as_deref().and_then(password) {
            Some(password) => self.what.replace(password, "***"),
            None => self.what.clone(),
        }
    }
}

/// Returns the password in a URL.
pub(crate) fn password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    // A password may have an `@` or a `/` that nobody has escaped.
    let (user, _) = if authority.contains('@') { authority.rsplit_once('@') } else { rest.rsplit_once('@') }?;
    user.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Stale => Failure::stale(error.to_string()),
            StoreErrorKind::NotMigrated => Failure::failed(
                "idem's tables are missing or of an older version: run `idem migrate`, with the same --table-prefix and --schema as \
                                 the application",
            ),
            _ => {
                let mut what = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    let text = cause.to_string();
                    if !what.contains(&text) {
                        what = format!("{what}: {text}");
                    }
                    source = cause.source();
                }
                if error.is_temporary() {
                    what.push_str("; try again");
                }
                Failure::failed(what)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::password;

    #[test]
    fn the_password_of_a_url_is_found() {
        assert_eq!(password("postgres://ada:s3cret@host/db"), Some("s3cret"));
        assert_eq!(password("mysql://ada:p@ss@host:3306/db?x=a@b"), Some("p@ss"));
        assert_eq!(password("mysql://ada:p/ss@host/db"), Some("p/ss"));
        for without in ["postgres://ada@host/db", "sqlite://file", "postgres://host:5432/db", "nothing"] {
            assert_eq!(password(without), None, "{without}");
        }
    }
}
