//! The codes of compile errors: one for each mistake that a user can make, however many messages tell of it.
//!
//! `docs/errors.md` is written from this table by the package `checks`, which reads this file as its own. So the
//! file uses nothing of the crate.

use std::fmt;

/// Makes [`Code`] of lines `Variant = "slug": "what it means", "what to write"`.
macro_rules! codes {
    ($($code:ident = $slug:literal: $meaning:literal, $remedy:literal;)*) => {
        /// What is wrong with a job, as the end of each message names it.
        #[cfg_attr(not(test), expect(dead_code, reason = "some stand in the texts of the traits of `idem-runtime`"))]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $(#[doc = $meaning] $code,)*
        }

        impl Code {
            #[cfg(test)]
            pub(crate) const ALL: &[Code] = &[$(Code::$code),*];

            /// Returns the code without its `idem::`.
            pub(crate) fn slug(self) -> &'static str {
                match self {
                    $(Code::$code => $slug,)*
                }
            }

            /// Tells what the mistake is, and why it is one.
            #[cfg(test)]
            pub(crate) fn meaning(self) -> &'static str {
                match self {
                    $(Code::$code => $meaning,)*
                }
            }

            /// Tells what to write instead.
            #[cfg(test)]
            pub(crate) fn remedy(self) -> &'static str {
                match self {
                    $(Code::$code => $remedy,)*
                }
            }
        }
    };
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idem::{}", self.slug())
    }
}

codes! {
    // The attribute and its options.
    Syntax = "syntax":
        "The tokens in the attribute do not parse: a comma, an `=` or a parenthesis is missing or is one too many.",
        "Options are `name`, `=` and a value, or `name(…)`, with commas between them: `#[idempotent(key = id, retain = \"7d\")]`.";
    UnknownOption = "unknown_option":
        "There is no option of this name. If it were ignored, the job would seem to promise what it does not.",
        "Take the name that the message suggests, or remove the option.";
    GivenTwice = "given_twice":
        "An option, or a part of one, is given twice, and only one of them could count.",
        "Remove one of them.";
    MissingValue = "missing_value":
        "The option has no value, or has it in a form that the option does not take.",
        "Write the form that the message shows, such as `key = payment_id` or `adopt(pattern => value)`.";
    UnknownValue = "unknown_value":
        "The option takes one of a few words, and this is none of them.",
        "Take one of the words that the message lists, without quotes.";
    TakesNothing = "takes_nothing":
        "The word stands for itself and takes nothing in parentheses.",
        "Remove the parentheses: `on_duplicate = skip`.";
    NotAString = "not_a_string":
        "The value is a text, and texts stand in quotes.",
        "Put it in quotes: `name = \"process_payment\"`, `schedule = \"0 3 * * *\"`, `time_zone = \"Europe/Berlin\"`.";
    NotAPath = "not_a_path":
        "The option takes the path of something that stands elsewhere. A call or a closure would be evaluated at another \
         time than it reads as.",
        "Write a function and name it: `check = already_paid`, `in_doubt = probe(find_charge)`; `crate` takes the path of a crate.";
    UnknownPart = "unknown_part":
        "`unique_by(…)` has the parts `queue` and `run`, `schedule(…)` has `time_zone` and `missed`; this is another.",
        "Take the name that the message suggests, or remove the part.";
    UnnamedPart = "unnamed_part":
        "Each part of `unique_by(…)`, and each part behind the cron text of `schedule(…)`, must say which it is.",
        "Write `unique_by = id` for queue and run, `unique_by(queue = …, run = …)` for each, \
         or `schedule(\"0 3 * * *\", time_zone = \"Europe/Berlin\", missed = all)`.";

    // The function.
    NotAFunction = "not_a_function":
        "A job is an async function. Nothing else can stand under the attribute.",
        "Put `#[idempotent(key = …)]` on an `async fn`.";
    WithoutBody = "without_body":
        "The function has no body, so the job would do nothing.",
        "Write a body. A declaration in a trait cannot be a job.";
    NotAsync = "not_async":
        "The function is not async, but a job waits for its store.",
        "Write `async fn`.";
    ConstFn = "const_fn":
        "A job cannot run at compile time.",
        "Remove `const`.";
    UnsafeFn = "unsafe_fn":
        "A job is run by workers and from its record, where nobody can promise what an `unsafe fn` asks of its callers.",
        "Put the unsafe call into a block of the body, with the reason why it is right there.";
    ExternFn = "extern_fn":
        "A job is called by Rust alone, so a foreign ABI has no meaning.",
        "Remove `extern`.";
    VariadicFn = "variadic_fn":
        "A job is stored as a value with one field for each argument, so their number is fixed.",
        "Take the further arguments as a `Vec`.";
    GenericFn = "generic_fn":
        "A job has one name, under which its records and tasks are found, so it is a job of one type.",
        "Write a job for each type; they can call one generic function. Remove a `where` clause.";
    SelfReceiver = "self_receiver":
        "A job is run again by another process, which has no `self` of this one.",
        "Write a free function, and take what it needs of `self` as a `#[state]` parameter.";

    // The parameters.
    SecondHandle = "second_handle":
        "A job has one transaction or one run: its kind is told by which of them it takes.",
        "Remove the second one. A leased job has transactions too: `run.tx_step(\"name\", async |tx| …)`.";
    HandleAsConnection = "handle_as_connection":
        "The transaction is given to sqlx as it is. It leads to the connection, which is what a query takes.",
        "Write `.execute(&mut **tx)`, and so with `fetch_one` and the others. A function of yours may take `tx: &mut Tx<'_, Sqlite>` \
         and do so itself.";
    MutableParameter = "mutable_parameter":
        "Only the transaction or the run is taken by `&mut`. A change of anything else would be lost when the job is run again.",
        "Write `tx: &mut Tx<'_, Postgres>` instead of a connection or a transaction of sqlx; take anything else as `#[state]`.";
    HandleWithoutDatabase = "handle_without_database":
        "`Tx` and `Run` must name their database, so that a job meets the store that it was written for.",
        "Write `tx: &mut Tx<'_, Postgres>`, or `Sqlite`, `MySql`, `Memory`.";
    HandleNotMutable = "handle_not_mutable":
        "The transaction or the run is lent to the job while idem keeps it: idem commits, the job does not.",
        "Take it as `&mut`: `tx: &mut Tx<'_, Postgres>`.";
    HandleNotFirst = "handle_not_first":
        "The transaction or the run tells the kind of the job, so it comes first.",
        "Move it to the front of the parameters.";
    HandleIsPattern = "handle_is_pattern":
        "The transaction or the run cannot be taken apart.",
        "Give it a plain name: `tx` or `run`.";
    UnnamedArgument = "unnamed_argument":
        "Every argument is a field of the job's struct, which takes over its name.",
        "Give it a plain name, also if it is not used (`_name`), and take patterns apart in the body.";
    ParameterTwice = "parameter_twice":
        "Two parameters have one name.",
        "Rename one of them.";
    ArgumentNamedGlobal = "argument_named_global":
        "`key = global` means one run ever, and would be read as the argument of that name.",
        "Rename the argument.";
    BorrowedArgument = "borrowed_argument":
        "An argument is a part of the job, which is stored and run later, when what was borrowed is gone.",
        "Take it owned: `String` instead of `&str`, `Vec<T>` instead of `&[T]`. \
         A dependency, such as a client or a configuration, is a `#[state]` parameter.";
    PointerArgument = "pointer_argument":
        "A pointer means nothing to the process that runs the job later.",
        "Take what it points to.";
    ImplTrait = "impl_trait":
        "A job, its result and what it depends on are values of named types: they are stored, recorded and found by type.",
        "Name the type; a dependency can be `&dyn Trait`.";
    StateNotShared = "state_not_shared":
        "What a `#[state]` parameter takes belongs to all jobs at once, so it comes as a plain shared reference.",
        "Write `#[state] gateway: &Gateway`. State that changes needs a lock inside it.";
    StateWithOptions = "state_with_options":
        "`#[state]` has no options: a dependency is found by its type.",
        "Write `#[state]`; give one of two dependencies of one type a newtype.";
    ParameterAttribute = "parameter_attribute":
        "A parameter can have `#[state]`, a doc comment and lint levels. Any other attribute would have no effect.",
        "Remove it, or correct its name to `#[state]`.";
    ArgumentWithoutSerde = "argument_without_serde":
        "A job is stored with its arguments, and serde cannot carry this type.",
        "Derive `Serialize` and `Deserialize` for it, pass an id and load the value inside the job, or take it as `#[state]`.";
    NotProvided = "not_provided":
        "The job takes a `#[state]` that the state of this `Idem` does not have.",
        "Give the state a field of that type and `#[derive(Provides)]`, and hand it over with `.state(…)`. An `Arc` is a part of the type: \
         a job that takes `&Arc<Bank>` needs `.state(Arc::new(bank))`, one that takes `&Bank` needs `.state(bank)`.";
    UnknownDatabase = "unknown_database":
        "There is no store for this database, or the feature that brings it is switched off.",
        "Use `Sqlite`, `Postgres`, `MySql` or `Memory`, and switch on the feature of `idem-runtime` of that name.";

    // The result.
    NotAResult = "not_a_result":
        "A job can fail, and its error is what leaves the key free to run again, so it returns a `Result`.",
        "Write `-> Result<T, YourError>`; a job without an answer returns `Result<(), YourError>`.";
    BorrowedResult = "borrowed_result":
        "The result is recorded and returned again by another process, so it must be owned.",
        "Return the owned type, such as `String`.";
    ResultWithoutSerde = "result_without_serde":
        "The result is recorded, so that a later run answers the same, and serde cannot carry this type.",
        "Derive `Serialize` and `Deserialize` for it, or return an id, or `()`.";
    ErrorWithoutSerde = "error_without_serde":
        "`replay(…)` records the error, so that a later run fails the same, and serde cannot carry this type.",
        "Derive `Serialize` and `Deserialize` for it (crate `serde`, feature `derive`), with `#[serde(skip)]` at variants that are \
         never final, such as `Db(sqlx::Error)`; or remove `replay(…)`: then an error leaves the key free.";

    ErrorNotSend = "error_not_send":
        "The error of a job goes to other threads, with the future that returns it. A trait object does so only if it says `Send`.",
        "Write `Box<dyn std::error::Error + Send + Sync>`, or a type of your own.";
    ErrorOfATask = "error_of_a_task":
        "apalis keeps the error of a task that failed, for people to read, so it is a `std::error::Error` that can go to \
         another thread.",
        "Implement `Display` and `std::error::Error` for it, or derive them: `#[derive(Debug, thiserror::Error)]`.";
    NotAPayload = "not_a_payload":
        "A storage of apalis has tasks of another type than those that idem's handlers take.",
        "Write `SqliteStorage::<Payload<SyncUser>>::new(…)`, and likewise for other storages.";
    NotAJob = "not_a_job":
        "What is run is the job as a value, which the attribute makes of the function. The function itself, or what it returns, is none.",
        "Write the struct that is named after the function, `idem.run(Charge { id })`, or call the function, `charge(&idem, id)`.";
    StateOfATrial = "state_of_a_trial":
        "The workers of a trial are given clones of one state, as processes are given the address of one server.",
        "Write `#[derive(Clone)]` on the state, and put what the workers share, such as a count of calls, behind an `Arc`.";
    NoCount = "no_count":
        "An observer counts effects, so it answers with an integer.",
        "Return how often the effect has happened. `Scenario::observe_async` takes a count that has to be awaited.";

    // Names.
    JobName = "job_name":
        "The name of a job is in every record and task. It has 1 to 100 of the characters `a-z A-Z 0-9 _ . : -`.",
        "Write `name = \"process_payment\"`.";
    StructName = "struct_name":
        "The job's struct is named after the function, in CamelCase. This is no name of a struct, or it would hide a name \
         that every module has.",
        "Write `job = AnotherName`, without quotes.";

    // The key, and other expressions over the arguments.
    MissingKey = "missing_key":
        "The key says which runs are the same work. idem cannot guess it: too narrow a key repeats the effect, \
         too wide a one drops work.",
        "Write `key = payment_id`, a tuple such as `key = (source, event_id)`, or `key = global` for a job that runs once ever.";
    ConstantKey = "constant_key":
        "The expression is empty or names no argument, so it would be the same in every run.",
        "Write an argument without quotes, such as `key = payment_id`; say `key = global` if one run ever is meant.";
    UnrepeatableKey = "unrepeatable_key":
        "Time and random values are others in every run, so no run would ever be found to be a repetition.",
        "Make the value where the job is enqueued and pass it as an argument.";
    UnknownArgument = "unknown_argument":
        "The expression names something that is no argument of this job.",
        "Correct the name, or add the argument.";
    StateInKey = "state_in_key":
        "A `#[state]` parameter is no part of the job: it may be another where the job is run again.",
        "Write an argument. Pass as one what the key needs of the state.";
    HandleInKey = "handle_in_key":
        "The transaction or the run is another one each time, so it cannot say what is the same work.",
        "Write an argument.";
    NotAKeyPart = "not_a_key_part":
        "A value of this type does not identify work: floats, maps and sets have no one form to compare by.",
        "Use integers, strings, ids, dates or tuples of them; derive `KeyPart` for a type of your own.";
    KeyPartWithoutFields = "key_part_without_fields":
        "A struct without fields has one value and identifies nothing.",
        "Give it a field, or leave it out of the key.";
    KeyPartOfUnion = "key_part_of_union":
        "Nobody knows which field of a union is the one that counts.",
        "Derive `KeyPart` for a struct or an enum.";
    IgnoreWithoutArgument = "ignore_without_argument":
        "`fingerprint = ignore(…)` takes the names of the arguments in which runs of one key may differ.",
        "Write `ignore(note)`, or `fingerprint = args` to ignore none.";
    IgnoreOfKey = "ignore_of_key":
        "Runs of one key never differ in an argument that is the key.",
        "Remove it from `ignore(…)`.";

    // Durations.
    InvalidDuration = "invalid_duration":
        "A duration is a text of numbers and units, from large to small, without spaces.",
        "Write a duration such as `\"30s\"` or `\"1h30m\"`, in quotes.";
    DurationUnit = "duration_unit":
        "The number has no unit, or one that idem does not know.",
        "The units are `ms`, `s`, `m`, `h`, `d` and `w`: `\"30s\"`.";
    ZeroDuration = "zero_duration":
        "A duration of zero would switch off what the option is for.",
        "Write a longer one, or leave the option out.";
    DurationTooLong = "duration_too_long":
        "Databases add the duration to a date, and their dates end.",
        "Write at most 100 years; `retain = forever` has no end.";
    TakesOneDuration = "takes_one_duration":
        "The word takes one duration in parentheses, and has none or several.",
        "Write `wait(\"10s\")`, `reschedule(\"5s\")`, `until_expired(\"1h\")` or `lease(\"30s\")`.";
    LeaseTooShort = "lease_too_short":
        "A lease is renewed by heartbeats, and one that is late must not cost the claim. So there is room for three.",
        "Write `lease(\"300ms\")` or more; the default is `lease(\"30s\")`.";

    // Locks and doubt.
    InvalidRow = "invalid_row":
        "`row(…)` names the column that finds the business row, and the value to compare it with. \
         The names go into SQL, so they are plain identifiers.",
        "Write `lock = row(payments.id = payment_id)`, with a schema if it needs one.";
    NotARowKey = "not_a_row_key":
        "The value that finds the business row must be one that databases compare exactly.",
        "Use an integer of up to 64 bits, a `String` or a `Uuid`.";
    LeaseOnAtomicJob = "lease_on_atomic_job":
        "An atomic job holds its key by its transaction, which ends when its process does. There is nothing to renew.",
        "Write `lock = row`, or leave it out.";
    LockOnLeasedJob = "lock_on_leased_job":
        "A leased job has no transaction around it that could hold a lock. It holds its key by a lease.",
        "Write `lock = lease(\"30s\")`, or leave it out; lock rows in a `run.tx_step(…)`.";
    BusyWithoutLock = "busy_without_lock":
        "Without a lock no run ever finds its key busy, so `on_busy` would never happen.",
        "Remove `on_busy` or `lock = none`.";
    NothingGuarded = "nothing_guarded":
        "With `lock = none` two runs may work at the same time, and with `retain = none` no record says that the work is done. \
         So nothing keeps a second run from it.",
        "Remove one of them: `lock = none` alone lets the record decide between runs, `retain = none` alone lets them follow each \
         other. Or say what guards the work instead: `check = already_done`, `adopt(constraint(\"index_name\") => value)`, \
         or `unique = until_executed` if the work comes from a queue.";
    UniqueWithoutLock = "unique_without_lock":
        "The option keeps runs apart by the lock on their key, and `lock = none` takes that away.",
        "Remove `lock = none`, or say with `unique_by(run = …)` which runs must not meet.";
    MissingInDoubt = "missing_in_doubt":
        "When a leased job is cut off, nobody knows whether its call elsewhere arrived. Only you can say what is right then.",
        "Write `in_doubt = rerun` if the callee takes the key and may be called again, `in_doubt = probe(path)` if the effect \
         can be looked up, `in_doubt = park` if a person must decide. A job whose effects are all in one database takes \
         `tx: &mut Tx<'_, Db>` instead.";
    InDoubtOnAtomicJob = "in_doubt_on_atomic_job":
        "The effects of an atomic job are in its transaction: they happened with it, or not at all.",
        "Remove `in_doubt`.";
    ProbeOfAllSteps = "probe_of_all_steps":
        "A probe looks for the effect of one step, so it stands at the step.",
        "Write `run.step(…).probe(path)`, and `in_doubt = rerun` or `in_doubt = park` for the others.";
    DriftWithoutSteps = "drift_without_steps":
        "`drift` says what becomes of recorded steps that the body no longer takes. This job records none.",
        "Remove `drift`.";

    // Records.
    NothingRecorded = "nothing_recorded":
        "With `retain = none` nothing is recorded, so there is nothing to replay or to compare with.",
        "Remove `retain = none`, or the option that needs the record.";
    AdoptWithoutValue = "adopt_without_value":
        "`adopt` turns an error into a success, so it must say what the job returns then.",
        "Write `adopt(PaymentError::Duplicate { id } => Receipt { id })`.";
    AdoptOfEverything = "adopt_of_everything":
        "This would record every error as work that was done, also of work that was not.",
        "Name the error that means that the work is done already, or add an `if`.";
    ConstraintName = "constraint_name":
        "`constraint` takes the name of one unique index, as the database reports it.",
        "Write `adopt(constraint(\"payments_pkey\") => value)`.";
    ConstraintWithCondition = "constraint_with_condition":
        "A violated index is known by its name alone; there is no error value to ask.",
        "Remove the condition, or match the error: `adopt(pattern if condition => value)`.";
    ConstraintOnLeasedJob = "constraint_on_leased_job":
        "A violated index breaks the transaction, which is undone to go on. A leased job has none around it.",
        "Write `adopt(pattern => value)`, or insert in a `run.tx_step(…)`.";

    // Uniqueness.
    MissingUnique = "missing_unique":
        "`unique_by` and `on_duplicate` say more about `unique`, which is not there.",
        "Write `unique = until_executed`, or another mode, as well.";
    PartWithoutPhase = "part_without_phase":
        "The mode takes no claim in the queue, or none for a run, so this part of `unique_by` would have no effect.",
        "Remove the part, or write `unique = until_and_while_executing`.";
    KeepLatestByKey = "keep_latest_by_key":
        "Under `keep_latest` a task with newer arguments does the work of an older one. If both have the same key, the record \
         of the older one, or what it has recorded so far, refuses the arguments of the newer one.",
        "Put the arguments that change into the key, and what there is only one of into `unique_by`: \
         `key = (user, version), unique_by = user`. A job with a transaction may say `retain = none` instead.";
    NoDuplicates = "no_duplicates":
        "Under this mode no task is refused as a duplicate when it is enqueued, so `on_duplicate` would never happen.",
        "Remove `on_duplicate`; `on_busy` says what a run does that meets another.";

    // Schedules.
    ScheduleWithoutTick = "schedule_without_tick":
        "The clock starts the job for a moment, its tick, and the job must take it: late runs and repetitions are told apart by it.",
        "Take `tick: Tick` and write `key = tick`.";
    ScheduleWithArgument = "schedule_with_argument":
        "The clock has a tick to give, and nothing for another argument.",
        "Load the value in the body, or take it as `#[state]`.";
    NotATick = "not_a_tick":
        "The argument of a scheduled job is the tick that the clock starts it for.",
        "Take `tick: Tick` from `idem_runtime::schedule`, and make everything else of it inside the job.";
    ScheduleOfOneKey = "schedule_of_one_key":
        "With `key = global` there is one run ever, so only the first tick would run.",
        "Write `key = tick`.";
    ScheduleWithoutRecord = "schedule_without_record":
        "With `retain = none` it is forgotten that a tick has run, and it could be started again.",
        "Remove `retain = none`, or write a duration.";
    TimeZone = "time_zone":
        "A time zone has a name in the IANA database. An offset does not know when clocks change.",
        "Write `time_zone = \"Europe/Berlin\"`; without it the schedule is in UTC.";
    CronFields = "cron_fields":
        "A cron text has five fields: minute, hour, day of the month, month, day of the week. There are no seconds and no years.",
        "Write `\"0 3 * * *\"` for each day at three.";
    CronAlias = "cron_alias":
        "Words such as `@daily` are not supported, since they mean different things to different programs.",
        "Write the five fields: `\"0 0 * * *\"`.";
    CronValue = "cron_value":
        "The field cannot have this value.",
        "Write a number in the range that the message names, or the three letters of a month or a day of the week.";
    CronRange = "cron_range":
        "The range runs backwards, from a later value to an earlier one.",
        "Write the two ranges that the message shows: `22-23,0-6`.";
    CronStep = "cron_step":
        "A step needs a range before it, and lies between 1 and the length of that range.",
        "Write `*/15`, or `5-59/15`.";
    CronNeverComes = "cron_never_comes":
        "None of the months has that day, so the job would never start.",
        "Write a day that one of the months has.";

    // Steps.
    StepName = "step_name":
        "The name of a step is recorded. It has 1 to 100 of the characters `a-z A-Z 0-9 _ . : -`.",
        "Write `run.step(\"charge\", …)`; what differs from run to run is an index, `(\"line\", i)`.";
    StepInLoop = "step_in_loop":
        "A second turn of the loop would find the step of the first one recorded, and skip its own.",
        "Write an index that differs in each turn: `run.step((\"line\", i), …)`.";
    StepTwice = "step_twice":
        "The second step of a name would find the first one recorded, and be skipped.",
        "Give each step a name of its own.";

    // The derive `Provides`.
    ProvidesOfNoStruct = "provides_of_no_struct":
        "`Provides` gives out the fields of a struct. An enum or a union does not have all of its fields.",
        "Derive `Provides` for a struct.";
    ProvidesWithoutFields = "provides_without_fields":
        "A struct without fields has nothing to give out.",
        "Remove the derive: every state provides itself.";
    ProvidesTwice = "provides_twice":
        "A dependency is found by its type, so two fields of one type cannot be told apart.",
        "Write `#[provides(skip)]` on one of them, or give it a newtype.";
}
