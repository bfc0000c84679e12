//! Statements that sessions keep prepared, and the messages that are made of them.

use std::fmt::{Display, Write as _};

use sqlx::postgres::PgRow;
use sqlx::{Postgres, SqlStr};

use super::{Session, message};
use crate::store::sql::{Leased, Text};

/// A statement that a session prepares when it first needs it. Where that does not last, it goes out as text.
pub(super) struct Saved {
    /// A hash of the text, so that a name can only ever mean the same statement, whoever prepared it.
    hash: u32,
    what: &'static str,
    types: &'static [&'static str],
    body: SqlStr,
}

impl Saved {
    /// Names a statement whose parameters `$1`, `$2`, … have these types.
    pub(super) fn new(what: &'static str, types: &'static [&'static str], body: String) -> Self {
        let hash = blake3::hash(format!("{}:{body}", types.join(",")).as_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        Saved { hash: u32::from_be_bytes([a, b, c, d]), what, types, body: Text::from(body).0 }
    }

    /// The statement as sqlx prepares it by itself.
    pub(super) fn query(&self) -> SqlStr {
        self.body.clone()
    }

    /// The statement with its arguments, which are literals, as text.
    pub(super) fn text(&self, arguments: &[&dyn Display]) -> String {
        let mut pieces = self.body.as_str().split('$');
        let mut sql = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = piece.split_at(digits);
            let at = number.parse::<usize>().expect("`$` stands only before the number of a parameter") - 1;
            push(&mut sql, format_args!("CAST({} AS {}){rest}", arguments[at], self.types[at]));
        }
        sql
    }

    fn push_name(&self, sql: &mut String) {
        push(sql, format_args!("idem_{}_{:08x}", self.what, self.hash));
    }
}

/// A message to a session.
pub(super) struct Script {
    /// Begins its transaction. It stands before all else, since an isolation level is only taken there.
    begin: &'static str,
    /// Comes next: what the session has to prepare.
    head: String,
    sql: String,
    /// What the session has prepared when the message is done; `None` where nothing lasts.
    prepared: Option<Vec<u32>>,
}

impl Script {
    /// Begins a message to a session. `keeps` tells whether it calls statements that are prepared there.
    pub(super) fn to(session: &mut Session, keeps: bool) -> Self {
        Script::new(keeps.then(|| std::mem::take(&mut session.prepared)))
    }

    /// Begins a message of text.
    pub(super) fn text() -> Self {
        Script::new(None)
    }

    fn new(prepared: Option<Vec<u32>>) -> Self {
        Script { begin: "", head: String::new(), sql: String::with_capacity(512), prepared }
    }

    /// Tells whether the message calls statements that are prepared.
    pub(super) fn keeps(&self) -> bool {
        self.prepared.is_some()
    }

    pub(super) fn begin(&mut self, begin: &'static str) {
        self.begin = begin;
    }

    pub(super) fn push_str(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    pub(super) fn push(&mut self, text: std::fmt::Arguments<'_>) {
        push(&mut self.sql, text);
    }

    /// Prepares what a later message in the same transaction calls.
    pub(super) fn need(&mut self, saved: &Saved) {
        let Some(prepared) = &mut self.prepared else { return };
        if prepared.contains(&saved.hash) {
            return;
        }
        prepared.push(saved.hash);
        self.head.push_str("PREPARE ");
        saved.push_name(&mut self.head);
        push(&mut self.head, format_args!("({}) AS {};", saved.types.join(","), saved.body.as_str()));
    }

    /// Calls a statement. Arguments are literals, and best have no type of their own: a number is converted with a
    /// look at the catalogue.
    pub(super) fn call(&mut self, saved: &Saved, arguments: &[&dyn Display]) {
        self.need(saved);
        if self.prepared.is_none() {
            self.sql.push_str(&saved.text(arguments));
            self.sql.push(';');
            return;
        }
        self.sql.push_str("EXECUTE ");
        saved.push_name(&mut self.sql);
        for (at, argument) in arguments.iter().enumerate() {
            let before = if at == 0 { '(' } else { ',' };
            push(&mut self.sql, format_args!("{before}{argument}"));
        }
        self.sql.push_str(");");
    }

    /// Sends the message.
    pub(super) async fn send(self, connection: &mut Leased<Postgres>) -> Result<Vec<PgRow>, sqlx::Error> {
        let sent = message(connection, [self.begin, &self.head, &self.sql].concat()).await;
        // What was prepared in front of something that failed stays, transaction or not.
        if let Some(prepared) = self.prepared {
            connection.session().prepared = prepared;
        }
        sent
    }
}

pub(super) fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("a string takes everything");
}

/// Bytes as a literal.
pub(super) struct Bytes<'b>(pub(super) &'b [u8]);

impl Display for Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits: String = self
            .0
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| char::from(DIGITS[usize::from(digit)]))
            .collect();
        // With two backslashes it is the same whatever `standard_conforming_strings` says.
        write!(f, "E'\\\\x{digits}'")
    }
}

/// A literal that has no type of its own yet.
pub(super) struct Quoted<T>(pub(super) T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}'", self.0)
    }
}

/// The same for what may be missing.
pub(super) fn quoted<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| String::from("NULL"), |value| Quoted(value).to_string())
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Quoted, Saved, Script};

    fn add() -> Saved {
        Saved::new("add", &["int", "bytea"], String::from("INSERT INTO t VALUES ($1, $2, $1)"))
    }

    #[test]
    fn a_session_prepares_a_statement_once() {
        let add = add();
        let mut first = Script::new(Some(Vec::new()));
        first.begin("BEGIN;");
        first.call(&add, &[&Quoted(1), &Bytes(&[0, 0xfa])]);
        first.call(&add, &[&Quoted(2), &Bytes(&[])]);
        let name = format!("idem_add_{:08x}", add.hash);
        assert_eq!(first.head, format!("PREPARE {name}(int,bytea) AS INSERT INTO t VALUES ($1, $2, $1);"));
        assert_eq!(first.sql, format!("EXECUTE {name}('1',E'\\\\x00fa');EXECUTE {name}('2',E'\\\\x');"));

        let mut second = Script::new(first.prepared);
        second.call(&add, &[&Quoted(3), &Bytes(&[])]);
        assert_eq!(second.head, "");
    }

    #[test]
    fn where_nothing_lasts_a_statement_is_text() {
        let mut script = Script::text();
        script.need(&add());
        script.call(&add(), &[&Quoted(1), &Bytes(&[1])]);
        assert_eq!(script.head, "");
        assert_eq!(
            script.sql,
            "INSERT INTO t VALUES (CAST('1' AS int), CAST(E'\\\\x01' AS bytea), CAST('1' AS int));"
        );
    }
}
