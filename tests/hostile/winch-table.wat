;; Looks at what tables answer where the engine's other compiler (Winch) was wrong: sizes with stray upper bits,
;; a refusal that is not -1, filling nothing at the end. Must find every answer right: it is compiled by Cranelift.
(table $t 10 20 funcref)
(run
    (if (i64.ne (i64.extend_i32_u (table.size $t)) (i64.const 10)) (then unreachable))
    (if (i64.ne (i64.extend_i32_u (table.grow $t (ref.null func) (i32.const 5))) (i64.const 10)) (then unreachable))
    (if (i64.ne (i64.extend_i32_s (table.grow $t (ref.null func) (i32.const 100))) (i64.const -1)) (then unreachable))
    (table.fill $t (i32.const 15) (ref.null func) (i32.const 0))
    (table.copy (i32.const 0) (i32.const 5) (i32.const 10))
    (if (i32.ne (table.size $t) (i32.const 15)) (then unreachable))
    (call $fine))
