-- A writer's hash of its row says nothing of what the store holds now: stores are compared by hashes that the
-- engine computes of the stored values.
ALTER TABLE {store}.contributions DROP COLUMN IF EXISTS row_hash;

ALTER TABLE {store}.documents DROP COLUMN IF EXISTS row_hash;

ALTER TABLE {store}.lifecycle DROP COLUMN IF EXISTS row_hash;

ALTER TABLE {store}.rejected DROP COLUMN IF EXISTS row_hash;

ALTER TABLE {store}.waiting DROP COLUMN IF EXISTS row_hash;

ALTER TABLE {store}.episodes DROP COLUMN IF EXISTS row_hash;

-- The columns of a view are those that its statement had when it was made.
CREATE OR REPLACE VIEW {views}.episodes AS
SELECT * EXCEPT (fold_version, written_at)
FROM {store}.episodes FINAL;
