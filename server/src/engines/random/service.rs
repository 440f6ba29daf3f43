//! The service Random.

use bytes::BufMut;
use prost::{EncodeError, Message};
use strongroom_proto::v1;

use super::{Generate, Generated};
use crate::{
    engines::{Reply, Service, at, service},
    limits::SMALL_REQUEST_BYTES,
};

pub(super) const SERVICE: Service = service! { "Random";
    "Generate" One SMALL_REQUEST_BYTES |asked: v1::GenerateRequest| at(&asked.path, Generate { length: asked.length });
};

impl Reply for Generated {
    fn write(self: Box<Self>, mut into: &mut dyn BufMut) -> Result<(), EncodeError> {
        v1::GenerateResponse { value: Some(self.0.into()) }.encode(&mut into)
    }
}
