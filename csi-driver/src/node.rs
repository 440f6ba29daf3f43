//! The kubelet's calls: parsed here, done in `publish.rs`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::{
    disk::Usage,
    failure::Failure,
    publish::Driver,
    telemetry::Doing,
    volume::{self, Target, VolumeId},
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
        let message = request.into_inner();
        let id = message.volume_id.clone();
        let parsed = volume::Request::parse(self.driver.kubelet_root(), self.driver.audience(), message);
        let published = match parsed {
            Ok(request) => self.driver.publish(request).await,
            Err(invalid) => Err(Failure::from(invalid)),
        };
        match published {
            Ok(()) => Ok(Response::new(NodePublishVolumeResponse {})),
            Err(failure) => Err(self.refuse(Doing::Publish, &id, failure)),
        }
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let NodeUnpublishVolumeRequest { volume_id, target_path } = request.into_inner();
        let done = async {
            let id = VolumeId::parse(&volume_id)?;
            let target = Target::parse(self.driver.kubelet_root(), &target_path)?;
            self.driver.unpublish(id, target).await
        };
        match done.await {
            Ok(()) => Ok(Response::new(NodeUnpublishVolumeResponse {})),
            Err(failure) => Err(self.refuse(Doing::Unpublish, &volume_id, failure)),
        }
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
        let (usage, health) = self.driver.stats(id, message.volume_path).await?;
        let Usage { bytes, inodes } = usage;
        let condition = VolumeCondition {
            abnormal: health.trouble.is_some(),
            message: health.trouble.unwrap_or_else(|| "the content is current".to_owned()),
        };
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

impl NodeService {
    /// One line in the log and one count, wherever a call failed.
    fn refuse(&self, doing: Doing, volume: &str, failure: Failure) -> Status {
        self.driver.metrics().failed(doing, failure.reason());
        tracing::warn!(volume, reason = failure.reason(), %failure, "{} refused", doing.as_str());
        failure.into()
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
