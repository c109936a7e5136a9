-- The queue was transport only and is kept in memory now: what was on it is in `tasks`, from where it is filled at every start.

DROP TABLE queue;
