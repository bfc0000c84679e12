use idem_runtime::codec::{decode, encode};
use idem_runtime::prelude::*;

#[idempotent(key = id)]
pub async fn ship(_: &mut Tx<'_, Memory>, id: i64, note: Option<String>, r#type: u8) -> Result<(), String> {
    drop((id, note, r#type));
    Ok(())
}

fn main() {
    let job: Ship = decode(&encode(&Ship { id: 1, note: Some(String::from("n")), r#type: 2 }).unwrap()).unwrap();
    assert!(job.id == 1 && job.note.as_deref() == Some("n") && job.r#type == 2);
}
