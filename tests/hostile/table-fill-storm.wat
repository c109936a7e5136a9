;; Tries to write a table again and again with single instructions. Must end at its deadline.
(table $t 50000 funcref)
(run (loop $on (table.fill $t (i32.const 0) (ref.null func) (i32.const 50000)) (br $on)) unreachable)
