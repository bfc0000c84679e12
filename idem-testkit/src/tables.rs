//! x
use std::collections::BTreeMap;
/// x
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables(pub BTreeMap<String, Table>);
/// x
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// x
    pub columns: Vec<String>,
    /// x
    pub rows: Vec<Vec<Option<String>>>,
}
