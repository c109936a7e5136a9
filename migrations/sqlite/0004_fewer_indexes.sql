-- Nobody looks for the tasks of a specification, and none is ever deleted. Each index is a page more to write with every task.

DROP INDEX IF EXISTS tasks_of_spec;
