;; Tries to grow a table without end and minds no refusal. Must end at the limit on tables.
(table $t 1 funcref)
(run (loop $on (drop (table.grow $t (ref.null func) (i32.const 50000))) (br $on)) unreachable)
