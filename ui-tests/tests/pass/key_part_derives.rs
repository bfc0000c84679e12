use idem_runtime::KeyPart;
use idem_runtime::key::KeyParts;

#[derive(KeyPart)]
struct Newtype(i64);

#[derive(KeyPart)]
struct Named {
    value: String,
}

#[derive(KeyPart)]
struct Line<T, const N: usize> {
    order: Newtype,
    parts: [T; N],
}

#[derive(KeyPart)]
struct Borrowed<'a>(&'a str, u8);

#[derive(KeyPart)]
enum Source {
    Github,
    Other(String),
    Both { key: u8, field0: u8 },
    r#Raw,
}

#[derive(KeyPart)]
#[allow(dead_code)]
enum Never {}

fn same(one: &impl KeyPart, other: &impl KeyPart) -> bool {
    KeyParts::of(one).unwrap() == KeyParts::of(other).unwrap()
}

fn main() {
    assert!(same(&Newtype(4), &4));
    assert!(same(&Named { value: String::from("x") }, &"x"));
    assert!(same(&Line { order: Newtype(1), parts: [2, 3] }, &(1, [2, 3])));
    assert!(same(&Borrowed("x", 1), &("x", 1_u8)));
    assert!(same(&Source::Other(String::from("x")), &("Other", "x")));
    assert!(same(&Source::Both { key: 1, field0: 2 }, &("Both", 1_u8, 2_u8)));
    assert!(same(&Source::Github, &("Github",)));
    assert!(same(&Source::Raw, &("Raw",)));
    assert!(!same(&Source::Github, &Source::Raw));
}
