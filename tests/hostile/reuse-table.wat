;; Looks through a fresh table for functions of the guest before it, then fills the table with its own. Run again
;; and again; must never find anything.
(table $t 1000 50000 funcref)
(elem declare func $own)
(func $own)
(run (local $n i32)
    (if (i32.eq (table.grow $t (ref.null func) (i32.const 40000)) (i32.const -1)) (then unreachable))
    (loop $on
        (if (i32.eqz (ref.is_null (table.get $t (local.get $n)))) (then unreachable))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 41000))))
    (table.fill $t (i32.const 0) (ref.func $own) (i32.const 41000))
    (call $fine))
