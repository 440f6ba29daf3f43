//! Events on pods whose content is outdated: what a pod's owner sees in `kubectl describe pod`. It decides what is told, in
//! which words and how often, and knows no API server.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{sync::mpsc, time::Instant};

use crate::{failure::Failure, limits, telemetry::Metrics, volume::Pod};

/// Where events go.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Writes a new event.
    async fn create(&self, event: &PodEvent) -> Result<(), EventError>;
    /// Notes that it happened again; [`EventError::Gone`] if the cluster has forgotten it.
    async fn repeat(&self, event: &PodEvent) -> Result<(), EventError>;
}

/// Why an event was not written. It holds nothing that the API server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error("the cluster does not have the event any more")]
    Gone,
    #[error("the API server cannot be reached, or did not answer in time")]
    Unreachable,
    #[error(
        "the API server refuses it (status {0}); deploy/components/pod-events has the role that it takes"
    )]
    Refused(u16),
    /// A fault of ours.
    #[error("the event could not be written down")]
    Malformed,
}

/// An event, as the cluster keeps it.
#[derive(Clone, Debug)]
pub struct PodEvent {
    pub pod: Pod,
    pub name: String,
    pub what: What,
    pub message: String,
    pub count: u32,
    pub first: Timestamp,
    pub last: Timestamp,
}

/// What has happened to the content of a pod's volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    Denied,
    Gone,
    Stale,
    /// All is well again.
    Current,
}

impl What {
    /// The reason of the event.
    pub fn reason(self) -> &'static str {
        match self {
            What::Denied => "SecretsDenied",
            What::Gone => "SecretsGone",
            What::Stale => "SecretsStale",
            What::Current => "SecretsCurrent",
        }
    }

    /// The type of the event.
    pub fn severity(self) -> &'static str {
        if self == What::Current { "Normal" } else { "Warning" }
    }
}

/// Something to tell the owner of a pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice {
    pub what: What,
    pub message: String,
}

impl Notice {
    /// What a failure to keep a mounted volume up to date means to the pod, which has been without news for so long. The same
    /// failure has the same words each time. A server that is away for a moment is no news.
    pub fn of(failure: &Failure, stale: Duration) -> Option<Self> {
        let passes = failure.is_transient() || failure.is_session_over();
        let what = match failure {
            _ if passes => return Self::stale(stale),
            Failure::Denied { .. } | Failure::Login { .. } => What::Denied,
            Failure::Missing { .. } | Failure::NotIssued { .. } => What::Gone,
            _ => What::Stale,
        };
        let mut message = format!("the pod keeps its last content: {failure}");
        let end = message.floor_char_boundary(limits::EVENT_BYTES);
        message.truncate(end);
        Some(Self { what, message })
    }

    /// The server has not been heard for so long.
    pub fn stale(stale: Duration) -> Option<Self> {
        let message =
            "the Strongroom server cannot be asked; the pod keeps its last content, which may be outdated";
        (stale >= limits::STALE_BEFORE_EVENT).then(|| Self { what: What::Stale, message: message.to_owned() })
    }

    /// After one of the others.
    pub fn current() -> Self {
        Self { what: What::Current, message: "the content is current again".to_owned() }
    }
}

/// Hands notices on, and never waits.
#[derive(Clone)]
pub struct PodEvents(Option<mpsc::Sender<(Pod, Notice)>>);

impl PodEvents {
    /// Tells nobody.
    pub fn off() -> Self {
        Self(None)
    }

    /// Starts the task that writes events; it ends with the last clone of what is returned.
    pub fn start(sink: Arc<dyn EventSink>, metrics: Arc<Metrics>) -> Self {
        let (sender, mut notices) = mpsc::channel(limits::EVENTS_WAITING);
        let mut desk = Desk { sink, metrics, known: HashMap::new(), next: Instant::now(), failing: false };
        tokio::spawn(async move {
            while let Some((pod, notice)) = notices.recv().await {
                desk.tell(pod, notice).await;
            }
        });
        Self(Some(sender))
    }

    /// Returns whether there was room: of more than can wait, the rest is told when it is said again.
    pub fn tell(&self, pod: &Pod, notice: Notice) -> bool {
        self.0.as_ref().is_none_or(|sender| sender.try_send((pod.clone(), notice)).is_ok())
    }
}

struct Desk {
    sink: Arc<dyn EventSink>,
    metrics: Arc<Metrics>,
    /// What was told lately, by pod and words, and when.
    known: HashMap<(String, What, String), Known>,
    /// When there is room for one more after all that were written, at [`limits::EVENT_EVERY`].
    next: Instant,
    /// Whether the last one could not be written.
    failing: bool,
}

struct Known {
    event: PodEvent,
    told: Instant,
    /// Whether the contrary was told since: then it is news again.
    over: bool,
}

impl Desk {
    async fn tell(&mut self, pod: Pod, notice: Notice) {
        let now = Instant::now();
        let age = |known: &Known| now.duration_since(known.told);
        self.known.retain(|_, known| age(known) < limits::EVENT_FORGOTTEN);
        let Notice { what, message } = notice;
        // What nobody has heard of, because it was dropped or could not be written, is not over either.
        if what == What::Current && !self.has_told_trouble(&pod.uid) {
            return;
        }
        let key = (pod.uid.clone(), what, message);
        if self.known.get(&key).is_some_and(|known| !known.over && age(known) < limits::EVENT_AGAIN) {
            return;
        }
        for ((uid, other, _), known) in &mut self.known {
            known.over |= *uid == pod.uid && (*other == What::Current) != (what == What::Current);
        }
        let next = self.next.max(now) + limits::EVENT_EVERY;
        if next > now + limits::EVENT_EVERY * limits::EVENTS_AT_ONCE
            || self.known.len() >= limits::EVENTS_KNOWN
        {
            self.metrics.pod_event("dropped");
            return;
        }
        self.next = next;
        let time = Timestamp::now();
        let (name, message) = (name(&pod, time), key.2.clone());
        let first = PodEvent { pod, name, what, message, count: 1, first: time, last: time };
        let written = match self.known.get(&key) {
            Some(Known { event, .. }) => {
                let again = PodEvent { count: event.count.saturating_add(1), last: time, ..event.clone() };
                match self.sink.repeat(&again).await {
                    Ok(()) => Ok(again),
                    Err(EventError::Gone) => self.sink.create(&first).await.map(|()| first),
                    Err(error) => Err(error),
                }
            }
            None => self.sink.create(&first).await.map(|()| first),
        };
        // Only what was written is known: the rest is told when it is said again.
        let written = written.map(|event| {
            self.known.insert(key, Known { event, told: now, over: false });
        });
        self.note(written);
    }

    /// Whether the owner of this pod knows of trouble that is not over.
    fn has_told_trouble(&self, pod: &str) -> bool {
        let trouble = |what: What, known: &Known| what != What::Current && !known.over;
        self.known.iter().any(|((uid, what, _), known)| uid == pod && trouble(*what, known))
    }

    /// The log says it once until it is otherwise.
    fn note(&mut self, written: Result<(), EventError>) {
        match written {
            Ok(()) => self.metrics.pod_event("written"),
            Err(error) => {
                self.metrics.pod_event("failed");
                if !self.failing {
                    tracing::warn!(%error, "an event on a pod could not be written");
                }
            }
        }
        self.failing = written.is_err();
    }
}

/// As other components name theirs: by the pod and the time. What is too long for a name is cut.
fn name(pod: &Pod, time: Timestamp) -> String {
    let end = pod.name.floor_char_boundary(limits::EVENT_NAME_BYTES);
    let stem = pod.name.get(..end).unwrap_or_default().trim_end_matches(['-', '.']);
    format!("{stem}.{:x}", time.as_nanosecond())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use strongroom_client::{Error, Reason};

    use super::*;

    /// A cluster that keeps events.
    #[derive(Default)]
    pub(crate) struct Kept {
        pub(crate) events: Mutex<Vec<PodEvent>>,
        refuses: Mutex<Option<EventError>>,
    }

    impl Kept {
        /// Reason, message and count of each event.
        pub(crate) fn told(&self) -> Vec<(&'static str, String, u32)> {
            let events = self.events.lock().unwrap();
            events.iter().map(|event| (event.what.reason(), event.message.clone(), event.count)).collect()
        }
    }

    #[async_trait]
    impl EventSink for Kept {
        async fn create(&self, event: &PodEvent) -> Result<(), EventError> {
            if let Some(error) = *self.refuses.lock().unwrap() {
                return Err(error);
            }
            self.events.lock().unwrap().push(event.clone());
            Ok(())
        }

        async fn repeat(&self, event: &PodEvent) -> Result<(), EventError> {
            if let Some(error) = *self.refuses.lock().unwrap() {
                return Err(error);
            }
            let mut events = self.events.lock().unwrap();
            let kept = events.iter_mut().find(|kept| kept.name == event.name).ok_or(EventError::Gone)?;
            kept.clone_from(event);
            Ok(())
        }
    }

    pub(crate) fn pod(name: &str) -> Pod {
        Pod {
            namespace: "payments".into(),
            name: name.into(),
            uid: format!("uid-of-{name}"),
            service_account: "web".into(),
        }
    }

    fn denied(decision: &str) -> Failure {
        let details = [("decision_id", decision), ("verb", "read"), ("path", "secret/a")];
        Failure::reading("web", "secret/a", Error::answered(Reason::PermissionDenied, "", &details))
    }

    fn desk(kept: &Arc<Kept>) -> (Desk, Arc<Metrics>) {
        let (sink, metrics) = (Arc::clone(kept) as Arc<dyn EventSink>, Arc::new(Metrics::new().unwrap()));
        let known = HashMap::new();
        (Desk { sink, metrics: Arc::clone(&metrics), known, next: Instant::now(), failing: false }, metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_words_are_one_event_and_are_not_repeated_at_once() {
        let kept = Arc::new(Kept::default());
        let (mut desk, _) = desk(&kept);
        for decision in ["01aa", "01bb", "01cc"] {
            desk.tell(pod("web-1"), Notice::of(&denied(decision), Duration::ZERO).unwrap()).await;
        }
        let [(reason, message, 1)] = &kept.told()[..] else { panic!("{:?}", kept.told()) };
        assert!(*reason == "SecretsDenied" && message.contains("may not read secret/a"), "{message}");
        assert!(!message.contains("01"), "no id of a decision: {message}");

        tokio::time::advance(limits::EVENT_AGAIN).await;
        desk.tell(pod("web-1"), Notice::of(&denied("01dd"), Duration::ZERO).unwrap()).await;
        assert_eq!(kept.told()[0].2, 2);
        // It is news again once it was over in between.
        desk.tell(pod("web-1"), Notice::current()).await;
        desk.tell(pod("web-1"), Notice::of(&denied("01dd"), Duration::ZERO).unwrap()).await;
        assert_eq!(kept.told()[0].2, 3);
        assert_eq!(kept.told()[1].0, "SecretsCurrent");
        // The cluster forgets events after an hour; the next one is new.
        kept.events.lock().unwrap().clear();
        tokio::time::advance(limits::EVENT_AGAIN).await;
        desk.tell(pod("web-1"), Notice::of(&denied("01ee"), Duration::ZERO).unwrap()).await;
        assert_eq!(kept.told()[0].2, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_full_of_pods_does_not_flood_the_api_server() {
        let kept = Arc::new(Kept::default());
        let (mut desk, metrics) = desk(&kept);
        for number in 0..300 {
            let notice = Notice::of(&denied("01"), Duration::ZERO).unwrap();
            desk.tell(pod(&format!("web-{number}")), notice).await;
        }
        assert_eq!(kept.told().len(), limits::EVENTS_AT_ONCE as usize);
        let text = metrics.render();
        assert!(text.contains("strongroom_csi_pod_events_total{outcome=\"dropped\"} 275"), "{text}");
        tokio::time::advance(limits::EVENT_EVERY).await;
        desk.tell(pod("late"), Notice::of(&denied("01"), Duration::ZERO).unwrap()).await;
        assert_eq!(kept.told().len(), limits::EVENTS_AT_ONCE as usize + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_tried_again_when_it_is_said_again() {
        let kept = Arc::new(Kept::default());
        let (mut desk, metrics) = desk(&kept);
        *kept.refuses.lock().unwrap() = Some(EventError::Refused(403));
        desk.tell(pod("web"), Notice::of(&denied("01"), Duration::ZERO).unwrap()).await;
        *kept.refuses.lock().unwrap() = None;
        desk.tell(pod("web"), Notice::of(&denied("01"), Duration::ZERO).unwrap()).await;
        assert_eq!(kept.told().len(), 1);
        assert!(metrics.render().contains("strongroom_csi_pod_events_total{outcome=\"failed\"} 1"));

        // The same of what is said once more: it counts as told only when it is written, and then as one more.
        tokio::time::advance(limits::EVENT_AGAIN).await;
        *kept.refuses.lock().unwrap() = Some(EventError::Unreachable);
        desk.tell(pod("web"), Notice::of(&denied("02"), Duration::ZERO).unwrap()).await;
        *kept.refuses.lock().unwrap() = None;
        desk.tell(pod("web"), Notice::of(&denied("03"), Duration::ZERO).unwrap()).await;
        assert_eq!(kept.told()[0].2, 2);
    }

    /// An event that was dropped told nobody: neither is its end told, nor is it withheld as known when it comes again.
    #[tokio::test(start_paused = true)]
    async fn what_was_dropped_is_not_taken_for_told() {
        let kept = Arc::new(Kept::default());
        let (mut desk, metrics) = desk(&kept);
        let trouble = || Notice::of(&denied("01"), Duration::ZERO).unwrap();
        for number in 0..limits::EVENTS_AT_ONCE {
            desk.tell(pod(&format!("web-{number}")), trouble()).await;
        }
        desk.tell(pod("late"), trouble()).await;
        assert!(metrics.render().contains("strongroom_csi_pod_events_total{outcome=\"dropped\"} 1"));
        tokio::time::advance(limits::EVENT_EVERY * 3).await;
        desk.tell(pod("late"), Notice::current()).await;
        assert_eq!(kept.told().len(), limits::EVENTS_AT_ONCE as usize, "no end of what nobody has heard of");
        desk.tell(pod("late"), trouble()).await;
        desk.tell(pod("late"), Notice::current()).await;
        let told = kept.told();
        let [.., (first, _, 1), (second, _, 1)] = &told[..] else { panic!("{told:?}") };
        assert_eq!((*first, *second), ("SecretsDenied", "SecretsCurrent"));

        // The end that was dropped is not told later, and the next trouble is news all the same.
        for number in 0..3 {
            desk.tell(pod(&format!("other-{number}")), trouble()).await;
        }
        desk.tell(pod("web-0"), Notice::current()).await;
        assert!(metrics.render().contains("strongroom_csi_pod_events_total{outcome=\"dropped\"} 4"));
        tokio::time::advance(limits::EVENT_EVERY).await;
        desk.tell(pod("web-0"), trouble()).await;
        assert_eq!(kept.told()[0].2, 2);
    }

    #[test]
    fn a_server_that_is_away_for_a_moment_is_no_news() {
        let away = || Failure::reading("web", "secret/a", Error::unreachable("connection refused"));
        assert_eq!(Notice::of(&away(), limits::STALE_BEFORE_EVENT / 2), None);
        let stale = Notice::of(&away(), limits::STALE_BEFORE_EVENT).unwrap();
        assert_eq!((stale.what, stale.what.severity()), (What::Stale, "Warning"));
        let gone = Error::answered(Reason::VersionDeleted, "", &[("version", "2")]);
        let gone = Notice::of(&Failure::reading("web", "secret/a", gone), Duration::ZERO).unwrap();
        assert!(gone.what == What::Gone && gone.message.contains("version 2 is deleted"), "{gone:?}");
    }

    #[test]
    fn a_name_is_one_that_the_cluster_takes() {
        let long = pod(&format!("{}-.tail", "a".repeat(limits::EVENT_NAME_BYTES - 1)));
        let name = name(&long, Timestamp::UNIX_EPOCH);
        assert!(name.ends_with("aaa.0") && name.len() < 253, "{name}");
    }
}
