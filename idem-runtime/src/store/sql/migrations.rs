//! Migrations: embedded, numbered from 1, never changed once released.

/// One step from one version of the tables to the next.
pub(in crate::store) struct Migration {
    /// The statements, each ending with a semicolon and a line break.
    pub(in crate::store) sql: String,
}

/// Tells whether tables of version `applied` need none of the migrations.
pub(in crate::store) fn is_up_to_date(applied: i64, migrations: &[Migration]) -> bool {
    usize::try_from(applied).is_ok_and(|applied| applied >= migrations.len())
}

/// Returns the SQL of all migrations, the history included, for a migration tool of the user's.
pub(in crate::store) fn print_migrations(
    history_table: &str,
    history: &str,
    migrations: &[Migration],
) -> String {
    let mut sql = format!("{history}\n");
    for (version, migration) in (1..).zip(migrations) {
        sql += &format!(
            "\n{}\nINSERT INTO {history_table} (version) VALUES ({version});\n",
            migration.sql.trim_end()
        );
    }
    sql
}
