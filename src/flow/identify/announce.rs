//! Who hears of a request: whoever has subscribed to it, and sees it.
use super::requester::callback_destination;
use super::{Draughtsman, Stop};
use crate::domain::fhir::Entry;
use crate::domain::follow_up::FollowUp;
use crate::domain::plan::{Act, Step};
use crate::flow::follow_ups::Subscription;
use serde_json::Value;

impl Draughtsman<'_> {
    /// Tells every subscriber how the request stands, after a step if one is named.
    pub(super) async fn announce(&mut self, request: &FollowUp, after: Option<usize>) -> Result<(), Stop> {
        let kind = request.resource_type().to_string();
        for subscription in self.near.journal.subscriptions(None, Some(&kind)).await? {
            if self.near.view(&subscription.client).shows(request) && subscription.criteria.matches(request) {
                self.notify(subscription, request.id(), request.shown(), after);
            }
        }
        Ok(())
    }

    /// Tells those who asked for it what came of requests: the Encounter, once it is on a server.
    pub(super) async fn announce_visit(
        &mut self,
        answered: &[FollowUp],
        visit: &Entry,
        after: Option<usize>,
    ) -> Result<(), Stop> {
        for subscription in self.near.journal.subscriptions(None, Some("Encounter")).await? {
            let view = self.near.view(&subscription.client);
            if answered.iter().any(|request| view.shows(request)) {
                self.notify(subscription, visit.full_url.clone(), visit.resource.clone(), after);
            }
        }
        Ok(())
    }

    fn notify(&mut self, subscription: Subscription, name: String, resource: Value, after: Option<usize>) {
        let address = subscription.endpoint.trim_end_matches('/').to_string();
        let act = Act::Callback {
            full_url: name,
            resource,
            subscription: Some(subscription.id),
            address: address.clone(),
        };
        let destination = callback_destination(&address);
        // One hears of a request in the order of what happened to it.
        let before = self.plan.steps.iter().rposition(|step| step.destination == destination);
        let after = before.or(after);
        self.plan.steps.push(Step {
            destination,
            act,
            after,
            needs: self.needs,
            part: self.plan.parts.len(),
        });
    }
}
