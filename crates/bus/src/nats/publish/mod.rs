//! Publishing a page: in one piece, in order, and once, and never behind what a younger owner wrote.
//!
//! Each message says after which sequence it is to stand, so the server refuses it wherever
//! something is missing before it or somebody else was faster. Each message also says which slot of
//! which page it is, so that after a lost answer the stream tells how much of the page is there
//! (`placing`). Where the topic ends is known before the fence is looked at (`fence`): whoever comes
//! in between is met by the server.

mod fence;
mod placing;
pub(super) mod room;

use alluvium_model::port::Published;
use alluvium_model::{BusError, CursorRecord, EncodedPage, EntityId};

use self::fence::Fence;
use self::placing::Placing;
use super::{Shared, headers, records};

pub(super) async fn publish(
    shared: &Shared,
    entity: &EntityId,
    page: EncodedPage,
    cursor: Option<CursorRecord>,
) -> Result<Published, BusError> {
    check_sizes(shared, &page, cursor.as_ref())?;
    let topic = shared.topic(entity).await?;
    let _place = match page.messages.is_empty() {
        true => None,
        false => {
            let place = topic.queue.lock().await;
            room::wait_for(shared, &topic, page.bytes() as u64).await?;
            Some(place)
        }
    };
    let mut turn = topic.turn.lock().await;
    // Whoever drops this future in the middle leaves a topic whose end must be asked for.
    let known = turn.take();
    let mut fence = cursor.as_ref().map(|record| Fence::new(shared, &topic, record));
    let mut placing = Placing::new(shared, &topic, &page.messages, fence.as_mut());
    let id = placing.page;
    let (span, tip) = placing.all(known).await?;
    topic.saw_totals(tip.end, tip.totals);
    topic.is_sure_of(tip.message);
    if let Some(fence) = &mut fence {
        fence.write(span.to).await?;
    }
    // Until here whoever publishes it again has to find it.
    topic.stands(id);
    *turn = Some(tip);
    Ok(Published { span })
}

fn check_sizes(
    shared: &Shared,
    page: &EncodedPage,
    cursor: Option<&CursorRecord>,
) -> Result<(), BusError> {
    let limit = shared.max_message_bytes();
    let cursor = cursor.map(records::encode).transpose()?.map(|bytes| bytes.len());
    let messages = page.messages.iter().enumerate();
    let messages = messages.map(|(at, message)| (Some(at), headers::size(message)));
    let mut sizes = messages.chain(cursor.map(|size| (None, size)));
    match sizes.find(|(_, size)| *size > limit) {
        Some((message, size)) => Err(BusError::TooLarge { size, limit, message }),
        None => Ok(()),
    }
}
