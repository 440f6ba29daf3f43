//! TEMP
use std::sync::Arc; use arc_swap::ArcSwap;
use super::*; use crate::barrier::*;
pub struct PolicyStore { set: ArcSwap<PolicySet>, docs: ArcSwap<Documents> }
impl PolicyStore {
 pub async fn load(_v: View) -> Result<Self, BarrierError> { let d=Documents::default(); Ok(Self{set: ArcSwap::from_pointee(PolicySet::compile(Documents::default()).unwrap()), docs: ArcSwap::from_pointee(d)}) }
 pub fn current(&self) -> Arc<PolicySet> { self.set.load_full() }
 pub fn documents(&self) -> Arc<Documents> { self.docs.load_full() }
 pub async fn apply(&self, _p: Plan) -> Result<(), BarrierError> { Ok(()) }
}
