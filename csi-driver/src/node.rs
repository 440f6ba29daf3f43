//! The kubelet's calls: parsed here, done in `publish.rs`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::{
    call::{Call, patience},
    disk::Usage,
    failure::Failure,
    publish::Driver,
    telemetry::Doing,
    volume::{self, Target, VolumeId},
    volumes::Condition,
    wire::csi::{
        NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
        NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest,
        NodePublishVolumeResponse, NodeServiceCapability, NodeUnpublishVolumeRequest,
        NodeUnpublishVolumeResponse, VolumeCondition, VolumeUsage,
        node_server::Node,
        node_service_capability::{Rpc, Type, rpc},
        volume_usage::Unit,
    },
};

/// What the driver can do beyond publish and unpublish. Nothing is staged.
const CAPABILITIES: [rpc::Type; 3] =
    [rpc::Type::VolumeMountGroup, rpc::Type::GetVolumeStats, rpc::Type::VolumeCondition];

pub struct NodeService {
    pub driver: Arc<Driver>,
    /// The node's name.
    pub node_id: String,
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let patience = patience(request.metadata());
        let message = request.into_inner();
        let call = Call::begin(self.driver.metrics(), Doing::Publish, &message.volume_id);
        let parsed = volume::Request::parse(self.driver.kubelet_root(), self.driver.audience(), message);
        let published = match parsed {
            Ok(request) => self.driver.publish_within(request, patience).await,
            Err(invalid) => Err(Failure::from(invalid)),
        };
        call.end(published).map(|()| Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let NodeUnpublishVolumeRequest { volume_id, target_path } = request.into_inner();
        let call = Call::begin(self.driver.metrics(), Doing::Unpublish, &volume_id);
        let done = async {
            let id = VolumeId::parse(&volume_id)?;
            let target = Target::parse(self.driver.kubelet_root(), &target_path)?;
            self.driver.unpublish(id, target).await
        };
        call.end(done.await).map(|()| Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let message = request.into_inner();
        let id = VolumeId::parse(&message.volume_id).map_err(Failure::from)?;
        if message.volume_path.is_empty() {
            return Err(Status::invalid_argument("volume_path is missing"));
        }
        let (usage, Condition { abnormal, message }) = self.driver.stats(id, message.volume_path).await?;
        let Usage { bytes, inodes } = usage;
        let condition = VolumeCondition { abnormal, message };
        Ok(Response::new(NodeGetVolumeStatsResponse {
            usage: vec![in_unit(Unit::Bytes, bytes), in_unit(Unit::Inodes, inodes)],
            volume_condition: Some(condition),
        }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capability =
            |kind: rpc::Type| NodeServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })) };
        Ok(Response::new(NodeGetCapabilitiesResponse {
            capabilities: CAPABILITIES.into_iter().map(capability).collect(),
        }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: self.node_id.clone(), ..Default::default() }))
    }
}

fn in_unit(unit: Unit, (total, available): (u64, u64)) -> VolumeUsage {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    VolumeUsage {
        available: number(available),
        total: number(total),
        used: number(total.saturating_sub(available)),
        unit: unit.into(),
    }
}
