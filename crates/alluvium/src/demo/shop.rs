//! A shop's database, whose rows change from step to step: the same in each demo.

use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

const SEED: u64 = 2018;
const FIRST_CUSTOMERS: u32 = 60;
const FIRST_ORDERS: u32 = 150;
const NAMES: [&str; 12] = [
    "Ada",
    "Alan",
    "Barbara",
    "Donald",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "Katherine",
    "Ken",
    "Margaret",
    "Tony",
];

/// The shop. Its clock is the feed's, so that it is the same in each demo.
pub(super) struct Shop {
    database: SqliteConnection,
    plan: Plan,
}

impl Shop {
    /// Makes and fills the database; `moment` is the time on the shop's clock.
    pub(super) async fn open(path: &Path, moment: Timestamp) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let mut database =
            options.disable_statement_logging().connect().await.context("cannot make the shop")?;
        let schema = include_str!("../../../../demo/shop/schema.sql");
        sqlx::raw_sql(schema).execute(&mut database).await.context("cannot make the shop")?;
        let mut shop = Self { database, plan: Plan::new(moment) };
        let deeds = shop.plan.opening();
        shop.apply(deeds, moment).await?;
        Ok(shop)
    }

    /// Lets the shop do business until `moment`.
    pub(super) async fn go_on_until(&mut self, moment: Timestamp) -> anyhow::Result<()> {
        let deeds = self.plan.business();
        self.apply(deeds, moment).await
    }

    /// Writes what happened since the last time, spread evenly over the time until `moment`.
    async fn apply(&mut self, deeds: Vec<Deed>, moment: Timestamp) -> anyhow::Result<()> {
        let from = self.plan.moment.as_second();
        let span = (moment.as_second() - from).max(0);
        self.plan.moment = moment;
        let of = i64::try_from(deeds.len())?.max(1);
        let mut all = self.database.begin().await.context("cannot write to the shop")?;
        for (deed, n) in deeds.iter().zip(1..) {
            let at = Timestamp::from_second(from + span * n / of)?.to_string();
            deed.write(&mut all, &at).await.context("cannot write to the shop")?;
        }
        all.commit().await.context("cannot write to the shop")
    }
}

/// What happens in the shop.
#[derive(Debug, PartialEq)]
enum Deed {
    Join {
        customer: u32,
        name: &'static str,
    },
    Email {
        customer: u32,
        email: String,
    },
    /// One of those who never order leaves.
    Leave,
    Order {
        order: u32,
        customer: u32,
        cents: u32,
    },
    Progress {
        order: u32,
        cancel: bool,
    },
}

impl Deed {
    async fn write(&self, database: &mut SqliteConnection, at: &str) -> sqlx::Result<()> {
        let query = match self {
            Self::Join { customer, name } => {
                sqlx::query(include_str!("../../../../demo/shop/join.sql"))
                    .bind(*customer)
                    .bind(*name)
                    .bind(format!("{}.{customer}@example.org", name.to_lowercase()))
                    .bind(at)
            }
            Self::Email { customer, email } => {
                sqlx::query(include_str!("../../../../demo/shop/email.sql"))
                    .bind(*customer)
                    .bind(email)
                    .bind(at)
            }
            Self::Leave => sqlx::query(include_str!("../../../../demo/shop/leave.sql")),
            Self::Order { order, customer, cents } => {
                sqlx::query(include_str!("../../../../demo/shop/order.sql"))
                    .bind(*order)
                    .bind(*customer)
                    .bind(format!("{}.{:02}", cents / 100, cents % 100))
                    .bind(at)
            }
            Self::Progress { order, cancel } => {
                sqlx::query(include_str!("../../../../demo/shop/progress.sql"))
                    .bind(*order)
                    .bind(*cancel)
                    .bind(at)
            }
        };
        query.execute(database).await.map(drop)
    }
}

/// Makes up what happens.
struct Plan {
    random: u64,
    customers: u32,
    orders: u32,
    moment: Timestamp,
}

impl Plan {
    fn new(moment: Timestamp) -> Self {
        Self { random: SEED, customers: 0, orders: 0, moment }
    }

    fn opening(&mut self) -> Vec<Deed> {
        let mut deeds: Vec<_> = (0..FIRST_CUSTOMERS).map(|_| self.join()).collect();
        deeds.extend((0..FIRST_ORDERS).map(|_| self.order()));
        deeds
    }

    fn business(&mut self) -> Vec<Deed> {
        let orders = self.orders;
        let mut deeds: Vec<_> = (0..60).map(|_| self.progress(orders)).collect();
        deeds.extend((0..40).map(|_| self.order()));
        deeds.extend((0..4).map(|_| self.email()));
        deeds.extend([self.join(), self.join(), Deed::Leave]);
        deeds
    }

    fn join(&mut self) -> Deed {
        self.customers += 1;
        let name = NAMES[self.below(12) as usize];
        Deed::Join { customer: self.customers, name }
    }

    fn email(&mut self) -> Deed {
        let (customer, n) = (self.below(self.customers) + 1, self.below(1000));
        Deed::Email { customer, email: format!("new.{customer}.{n}@example.com") }
    }

    /// An order of anybody but every fifth customer: those may leave.
    fn order(&mut self) -> Deed {
        self.orders += 1;
        let customer = self.below(self.customers) + 1;
        let customer = if customer.is_multiple_of(5) { customer - 1 } else { customer };
        Deed::Order { order: self.orders, customer, cents: 500 + self.below(50_000) }
    }

    fn progress(&mut self, orders: u32) -> Deed {
        Deed::Progress { order: self.below(orders) + 1, cancel: self.below(12) == 0 }
    }

    /// A number below `end`: splitmix64, which is the same everywhere.
    fn below(&mut self, end: u32) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(end.max(1))) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_are_added_changed_and_deleted_and_times_only_grow() {
        let folder = tempfile::tempdir().unwrap();
        let at = |hours: i64| Timestamp::from_second(1_517_363_399 + hours * 3600).unwrap();
        let mut shop = Shop::open(&folder.path().join("shop.db"), at(0)).await.unwrap();
        shop.go_on_until(at(20)).await.unwrap();
        let mut count = async |sql: &'static str| -> i64 {
            sqlx::query_scalar(sql).fetch_one(&mut shop.database).await.unwrap()
        };
        assert_eq!(count("SELECT count(*) FROM customers").await, 60 + 2 - 1);
        assert_eq!(count("SELECT count(*) FROM orders").await, 150 + 40);
        assert!(count("SELECT count(*) FROM orders WHERE status <> 'open'").await > 20);
        let late = "SELECT count(*) FROM orders WHERE updated_at > '2018-01-31T21:50:00Z'";
        assert_eq!(count(late).await, 0);
    }

    #[test]
    fn the_shop_is_the_same_in_each_demo() {
        let mut plans = [Plan::new(Timestamp::UNIX_EPOCH), Plan::new(Timestamp::UNIX_EPOCH)];
        let [one, two] = plans.each_mut().map(|plan| (plan.opening(), plan.business()));
        assert_eq!(one, two);
    }
}
