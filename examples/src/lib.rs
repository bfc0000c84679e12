//! Programs that use idem; each is an example of its own.
