//! What the SQL stores share: connections of their own, migrations, and how errors are read.

mod connections;
mod errors;
mod migrations;

use std::sync::Arc;

use sqlx::Pool;

pub(super) use self::connections::{Connections, Driver, Leased};
pub(super) use self::errors::{broke, driver_error, temporary, violated_constraint};
pub(super) use self::migrations::{Migration, print_migrations};
use super::{Database, Settings, Store};
use crate::error::StoreError;

/// A database that sqlx speaks to and idem has a store for.
pub trait SqlDatabase: sqlx::Database + Database<Connection = <Self as sqlx::Database>::Connection> {
    /// Makes the store of the database that `pool` connects to.
    ///
    /// # Errors
    ///
    /// A pool that cannot serve.
    fn store(pool: Pool<Self>, settings: Settings) -> Result<Arc<dyn Store<Self>>, StoreError>;
}
