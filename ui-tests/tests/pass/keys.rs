use idem_runtime::key::KeyParts;
use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(KeyPart, Serialize, Deserialize)]
pub struct OrderId(i64);

#[derive(Serialize, Deserialize)]
pub struct Order {
    id: OrderId,
    name: String,
    tags: Vec<String>,
}

const TENANT: u8 = 3;

fn length(name: &str) -> usize {
    name.len()
}

#[idempotent(key = id)]
async fn argument(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = (id))]
async fn parenthesized(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = (id, email))]
async fn tuple(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = order.id)]
async fn field(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = (order.id, order.name))]
async fn fields(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = (id, (order.id, order.name)))]
async fn nested(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = order.tags[..])]
async fn slice(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = (order.tags[0], id))]
async fn element(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = email.to_lowercase())]
async fn method(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = (length(&order.name), email))]
async fn function(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

fn is_letter(letter: char) -> bool {
    letter.is_alphabetic()
}

#[idempotent(key = email.trim_matches(is_letter))]
async fn function_by_name(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = (id % 4, email.len() + 1))]
async fn arithmetic(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = (*id as u64, email))]
async fn cast(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = (TENANT, id))]
async fn constant(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = format!("{id}-{}", order.name))]
async fn formatted(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = order.tags.iter().map(|tag| tag.len()).sum::<usize>())]
async fn closure(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = { let id = id + 1; id })]
async fn block(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = &id)]
async fn reference(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

#[idempotent(key = global)]
async fn global_key(_: &mut Tx<'_, Memory>, id: i64, order: Order, email: String) -> Result<(), String> {
    drop((id, order, email));
    Ok(())
}

fn order() -> Order {
    Order { id: OrderId(5), name: String::from("n"), tags: vec![String::from("t")] }
}

fn main() {
    let email = || String::from("A@b");
    assert_eq!(Argument { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&7).unwrap()));
    assert_eq!(Parenthesized { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&7).unwrap()));
    assert_eq!(Tuple { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&(7, "A@b")).unwrap()));
    assert_eq!(Field { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&5).unwrap()));
    assert_eq!(Fields { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&(5, "n")).unwrap()));
    assert_eq!(Nested { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&(7, (5, "n"))).unwrap()));
    assert_eq!(Slice { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&["t"][..]).unwrap()));
    assert_eq!(Element { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&("t", 7)).unwrap()));
    assert_eq!(Method { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&"a@b").unwrap()));
    assert_eq!(Function { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&(1_u8, "A@b")).unwrap()));
    assert_eq!(FunctionByName { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&"@").unwrap()));
    assert_eq!(Arithmetic { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&(3, 4_u8)).unwrap()));
    assert_eq!(Cast { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&(7_u64, "A@b")).unwrap()));
    assert_eq!(Constant { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&(3_u8, 7)).unwrap()));
    assert_eq!(Formatted { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&"7-n").unwrap()));
    assert_eq!(Closure { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&1_u8).unwrap()));
    assert_eq!(Block { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&8).unwrap()));
    assert_eq!(Reference { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::of(&7).unwrap()));
    assert_eq!(GlobalKey { id: 7, order: order(), email: email() }.key(), Ok(KeyParts::global()));
}
