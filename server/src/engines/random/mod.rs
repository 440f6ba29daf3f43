//! random: passwords and keys from the server's own randomness, so that nobody has to invent one. It keeps nothing and
//! knows nothing; what it made is in the answer and nowhere else.

mod service;
mod shape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use super::{Engine, EngineError, EngineKind, Output, Parts, Settings, no_settings, own};
use crate::{
    barrier::BarrierError,
    crypto::Entropy,
    model::{Invalid, SecretBytes, Verb},
    permit::Permit,
};
use shape::Shape;

/// random, for the mount table.
pub const KIND: EngineKind = EngineKind {
    name: "random",
    description: "Passwords and keys made by the server; keeps nothing.",
    service: service::SERVICE,
    check,
    build,
};

/// Makes a secret of the shape that the permit's path names.
pub struct Generate {
    /// How long; `None` = as long as is good.
    pub length: Option<u32>,
}

pub struct Generated(pub SecretBytes);

struct Random(Arc<dyn Entropy>);

fn check(settings: &Settings) -> Result<(), Invalid> {
    no_settings(KIND.name, settings)
}

fn build(parts: Parts) -> Result<Box<dyn Engine>, Invalid> {
    check(&parts.settings)?;
    Ok(Box::new(Random(parts.entropy)))
}

impl super::Operation for Generate {
    fn verbs(&self) -> &'static [Verb] {
        &[Verb::Use]
    }

    /// The server is the same afterwards.
    fn is_write(&self) -> bool {
        false
    }
}

#[async_trait]
impl Engine for Random {
    async fn run(&self, permit: Permit, operation: Box<dyn super::Operation>) -> Result<Output, EngineError> {
        let Generate { length } = own(operation)?;
        let shape = Shape::at(permit.path())?;
        Ok(Output::one(Generated(shape.make(length, &*self.0)?)))
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        Ok(())
    }
}
