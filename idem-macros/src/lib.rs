//! The attribute of idem; use it through `idem-runtime`.
