//! Chapters that are longer than a page of an item: what holds where, and how to come here from elsewhere.

#[doc = include_str!("book/guarantees.md")]
pub mod guarantees {}

pub mod coming_from {
    //! What changes for those who have made jobs safe by other means before.
    //!
    //! | from | the chapter says |
    //! |---|---|
    //! | [hand-written keys](hand_written_keys) | the classic mistakes and what replaces each; how to take over records that are there |
    //! | [Sidekiq unique jobs](sidekiq) | mode by mode, option by option |
    //! | [apalis alone](apalis) | what to change in producer, job and worker |
    //! | [durable-execution engines](durable_execution) | what a step is here and there, and what idem does not do |

    #[doc = include_str!("book/hand_written_keys.md")]
    pub mod hand_written_keys {}

    #[doc = include_str!("book/sidekiq.md")]
    pub mod sidekiq {}

    // Compiled with the crates of apalis, by the doctests of `idem-testkit`.
    #[cfg_attr(not(doctest), doc = include_str!("book/apalis.md"))]
    pub mod apalis {}

    #[doc = include_str!("book/durable_execution.md")]
    pub mod durable_execution {}
}
