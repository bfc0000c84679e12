//! Where a throw-away database is, for a process of its own.

use idem_examples::cli::sqlite_url;
use idem_testkit::lab::Lab;
use sqlx::ConnectOptions as _;

pub(crate) fn sqlite(lab: &Lab<sqlx::Sqlite>) -> String {
    sqlite_url(lab.options().get_filename())
}

/// The URL with the schema of the lab.
pub(crate) fn postgres(lab: &Lab<sqlx::Postgres>) -> String {
    let lab = lab.options();
    let mut url = lab.to_url_lossy();
    url.query_pairs_mut().append_pair("options", lab.get_options().expect("a lab has a schema"));
    // A blank in a query is a plus sign there, and to others one that means itself.
    url.as_str().replace('+', "%20")
}
