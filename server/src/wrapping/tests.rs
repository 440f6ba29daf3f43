//! Wrapped answers over a real barrier: opened once, by its own token, within its time.

use std::sync::Arc;

use bytes::BufMut;
use prost::EncodeError;

use super::*;
use crate::{auth::conformance::view, crypto::SystemEntropy, engines::Reply};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const BY: RequestId = RequestId([9; 16]);

struct Bytes(Vec<u8>);

impl Reply for Bytes {
    fn write(self: Box<Self>, into: &mut dyn BufMut) -> Result<(), EncodeError> {
        // As prost does it.
        if into.remaining_mut() < self.0.len() {
            let mut no_room: &mut [u8] = &mut [];
            return prost::Message::encode(&1_u32, &mut no_room);
        }
        into.put_slice(&self.0);
        Ok(())
    }
}

fn about(n: u8) -> About {
    About {
        id: RequestId([n; 16]),
        operation: "Secrets.Get".into(),
        path: Path::parse("secret/app").unwrap(),
        by: "userpass/alice".into(),
        at: NOW,
        expires: NOW.plus(HOUR),
    }
}

fn answer(bytes: usize) -> Box<dyn Reply> {
    Box::new(Bytes(vec![b'x'; bytes]))
}

async fn wrapping() -> Wrapping {
    Wrapping::new(view("sys/wrapping").await, Arc::new(SystemEntropy))
}

/// What the other end of the wire shows.
fn shown(token: Token) -> Token {
    Token::parse(&token.into_text()).unwrap()
}

#[tokio::test]
async fn it_opens_once_and_a_second_opening_is_told_from_none() {
    let wrapping = wrapping().await;
    let token = shown(wrapping.keep(&about(1), answer(3)).await.unwrap());
    let (one, other) = (wrapping.find(&token, NOW).await.unwrap(), wrapping.find(&token, NOW).await.unwrap());
    assert_eq!(one.about, about(1));
    assert_eq!(wrapping.open(one, BY, NOW).await.unwrap().expose(), b"xxx");
    // Two who came at once, and one who comes later.
    assert!(matches!(
        wrapping.open(other, BY, NOW).await,
        Err(WrapError::Opened { .. } | WrapError::Nothing)
    ));
    let again = wrapping.find(&token, NOW.plus(HOUR * 24)).await.err().unwrap();
    assert!(
        matches!(&again, WrapError::Opened { about: known, opened } if **known == about(1) && *opened == NOW),
        "{again}"
    );

    // Nothing else opens it, and nothing says that there is something.
    let token = wrapping.keep(&about(2), answer(3)).await.unwrap();
    let text = token.into_text();
    let guess = Token::new(RequestId([2; 16]), &SystemEntropy).unwrap();
    assert!(matches!(wrapping.find(&guess, NOW).await, Err(WrapError::Nothing)));
    let text = text.expose_str().unwrap();
    for wrong in
        ["", "srw1_", "sr1_abc", &text[..text.len() - 1], &format!("{text}A"), &text.replace("srw1", "srw2")]
    {
        assert!(Token::parse(&SecretBytes::from(wrong)).is_none(), "{wrong}");
    }
    assert!(Token::parse(&SecretBytes::from(format!(" {text}\n"))).is_some());
}

#[tokio::test]
async fn its_time_is_over_and_then_it_is_forgotten() {
    let wrapping = wrapping().await;
    let late = shown(wrapping.keep(&about(1), answer(3)).await.unwrap());
    let opened = shown(wrapping.keep(&about(2), answer(3)).await.unwrap());
    wrapping.open(wrapping.find(&opened, NOW).await.unwrap(), BY, NOW).await.unwrap();
    let end = NOW.plus(HOUR);
    assert!(matches!(wrapping.find(&late, end).await, Err(WrapError::Nothing)));

    wrapping.sweep(end).await.unwrap();
    assert_eq!(wrapping.waiting().all, 0);
    assert!(wrapping.answer(about(1).id).await.unwrap().is_empty(), "the answer is gone");
    assert!(matches!(wrapping.find(&opened, end).await, Err(WrapError::Opened { .. })));
    wrapping.sweep(end.plus(REMEMBERED)).await.unwrap();
    assert!(matches!(wrapping.find(&opened, end).await, Err(WrapError::Nothing)));
    assert!(wrapping.view.scan(record::HEADER, "", None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn there_are_limits() {
    let wrapping = wrapping().await;
    let longest = shown(wrapping.keep(&about(1), answer(ANSWER_BYTES)).await.unwrap());
    let found = wrapping.find(&longest, NOW).await.unwrap();
    assert_eq!(wrapping.open(found, BY, NOW).await.unwrap().expose(), vec![b'x'; ANSWER_BYTES]);
    let long = wrapping.keep(&about(2), answer(ANSWER_BYTES + 1)).await;
    assert!(matches!(long, Err(WrapError::TooLarge(_))));
    let bob = || About { by: "userpass/bob".into(), ..about(3) };
    wrapping.waiting().of.insert(about(3).by, MOST_OF_ONE);
    assert!(matches!(wrapping.keep(&about(3), answer(1)).await, Err(WrapError::Full)));
    wrapping.keep(&bob(), answer(1)).await.unwrap();
    wrapping.waiting().all = MOST;
    assert!(matches!(wrapping.keep(&About { id: BY, ..bob() }, answer(1)).await, Err(WrapError::Full)));
    // A sweep counts those that are there.
    wrapping.sweep(NOW).await.unwrap();
    assert_eq!(wrapping.waiting().all, 1);
    wrapping.keep(&about(4), answer(1)).await.unwrap();

    for (seconds, is_possible) in
        [(0, false), (1, true), (604_800, true), (604_801, false), (u64::MAX, false)]
    {
        assert_eq!(ttl(seconds).is_ok(), is_possible, "{seconds}");
    }
}
