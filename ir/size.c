// Symbolic sizes (see size.h): construction in canonical form.
//
// Everything goes through `poly`, a polynomial under construction: sums and products are made there and poly_finish() turns it
// into the interned node. Atoms with rules of their own (floordiv, mod, min, max) are simplified before they are interned. Each
// rule is an identity over the integers for divisors >= 1, so a size is never approximated.
#include "ir/size.h"

#include "base/checked.h"

#include <stdlib.h>

#define TS_DIAG TS_DIAG_DEFINE
#include "ir/size.def"
#undef TS_DIAG

typedef __int128 wide;

static bool fits(wide v) { return v >= INT64_MIN + 1 && v <= INT64_MAX; }   // INT64_MIN stays out: it has no negative

void ir_sizes_init(ir_sizes *c, ts_arena *arena, ts_interner *names) {
  *c = (ir_sizes){.arena = arena, .names = names, .work_limit = UINT64_MAX};
}

void ir_sizes_deinit(ir_sizes *c) { ts_map_deinit(&c->nodes); }

// ---- residue classes: {r + s * t}, s = 0 for a single value -------------------------------------------------------------

typedef struct class {
  int64_t s, r;
} class;

static uint64_t gcd_u(uint64_t a, uint64_t b) {
  while (b) {
    uint64_t t = a % b;
    a = b, b = t;
  }
  return a;
}

static int64_t gcd(int64_t a, int64_t b) { return (int64_t)gcd_u((uint64_t)(a < 0 ? -a : a), (uint64_t)(b < 0 ? -b : b)); }

static class class_of(const ir_size *s) { return (class){s->step, s->residue}; }

static class class_make(wide s, wide r) {
  if (s < 0) s = -s;
  if (!fits(s) || (s == 0 && !fits(r))) return (class){1, 0};   // any divisor of s is sound; 1 says nothing
  if (s == 0) return (class){0, (int64_t)r};
  r %= s;
  return (class){(int64_t)s, (int64_t)(r < 0 ? r + s : r)};
}

static class class_add(class a, class b) { return class_make(gcd(a.s, b.s), (wide)a.r + b.r); }

static class class_mul(class a, class b) {
  // (r1 + s1 t)(r2 + s2 u): every product with an s is a multiple of the gcd below.
  wide x = (wide)a.s * b.s, y = (wide)a.s * b.r, z = (wide)b.s * a.r;
  if (!fits(x) || !fits(y) || !fits(z)) return (class){1, 0};
  return class_make(gcd(gcd((int64_t)x, (int64_t)y), (int64_t)z), (wide)a.r * b.r);
}

static class class_join(class a, class b) {
  wide d = (wide)a.r - b.r;
  if (!fits(d)) return (class){1, 0};
  return class_make(gcd(gcd(a.s, b.s), (int64_t)d), a.r);
}

// ---- interning ----------------------------------------------------------------------------------------------------------

static uint64_t node_hash(const ir_size *n) {
  int64_t head[8] = {n->op, n->count, n->value};
  if (n->op == IR_SIZE_SYMBOL) {
    head[3] = n->klass, head[4] = n->lo, head[5] = n->hi, head[6] = n->step;
    head[7] = (int64_t)(uintptr_t)n->name;
    return ts_hash_bytes(head, sizeof head, 1);
  }
  uint64_t h = ts_hash_bytes(head, 3 * sizeof *head, 2);
  if (n->op == IR_SIZE_SUM) {
    for (uint32_t i = 0; i < n->count; i++) {
      h = ts_hash_bytes(&n->terms[i].coef, sizeof n->terms[i].coef, h);
      h = ts_hash_bytes(n->terms[i].factors, n->terms[i].count * sizeof *n->terms[i].factors, h);
    }
  } else if (n->count) {
    h = ts_hash_bytes(n->args, n->count * sizeof *n->args, h);
  }
  return h;
}

static bool node_same(const ir_size *a, const ir_size *b) {
  if (a->op != b->op || a->count != b->count || a->value != b->value) return false;
  if (a->op == IR_SIZE_SYMBOL)
    return a->name == b->name && a->klass == b->klass && a->lo == b->lo && a->hi == b->hi && a->step == b->step;
  if (a->op != IR_SIZE_SUM) return a->count == 0 || memcmp(a->args, b->args, a->count * sizeof *a->args) == 0;
  for (uint32_t i = 0; i < a->count; i++) {
    const ir_size_term *x = &a->terms[i], *y = &b->terms[i];
    if (x->coef != y->coef || x->count != y->count || memcmp(x->factors, y->factors, x->count * sizeof *x->factors)) return false;
  }
  return true;
}

// The one node equal to *n. Arrays of *n must already live in the context's arena.
static const ir_size *intern(ir_sizes *c, const ir_size *n) {
  uint64_t h = node_hash(n);
  const ir_size *chain = ts_map_get(&c->nodes, h);
  for (const ir_size *i = chain; i; i = i->next)
    if (node_same(i, n)) return i;
  ir_size *made = ts_new(c->arena, ir_size);
  *made = *n;
  made->next = chain;
  if (made->op == IR_SIZE_SYMBOL) {
    made->index = (uint32_t)c->symbols.count;
    ts_vec_push(c->arena, &c->symbols, made);
  }
  ts_map_put(&c->nodes, h, made);
  return made;
}

static const ir_size *make_error(ir_sizes *c, int64_t reason) {
  return intern(c, &(ir_size){.op = IR_SIZE_ERROR, .value = reason, .step = 1});
}

const ir_size *ir_size_const(ir_sizes *c, int64_t v) {
  if (v == INT64_MIN) return make_error(c, IR_SIZE_OVERFLOW);
  return intern(c, &(ir_size){.op = IR_SIZE_CONST, .lo = v, .hi = v, .residue = v, .value = v});
}

const ir_size *ir_size_symbol(ir_sizes *c, ts_str name, ir_size_class klass, int64_t lo, int64_t hi, int64_t step) {
  if (lo > hi || step < 1 || lo == INT64_MIN || hi - (wide)lo > INT64_MAX) return make_error(c, IR_SIZE_BAD_SYMBOL);
  hi -= (hi - lo) % step;
  ir_size n = {.op = IR_SIZE_SYMBOL, .klass = klass, .lo = lo, .hi = hi, .step = step, .name = ts_intern(c->names, name)};
  n.residue = ts_floor_mod(lo, step);
  return intern(c, &n);
}

const ir_size *ir_size_find(const ir_sizes *c, ts_str name) {
  for (size_t i = c->symbols.count; i-- > 0;)
    if (ts_str_is(name, c->symbols.data[i]->name)) return c->symbols.data[i];
  return NULL;
}

// ---- order --------------------------------------------------------------------------------------------------------------

static int order(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int compare_factors(const ir_size_term *a, const ir_size_term *b) {
  if (a->count != b->count) return order(b->count, a->count);   // higher degree first
  for (uint32_t i = 0; i < a->count; i++) {
    int r = ir_size_compare(a->factors[i], b->factors[i]);
    if (r) return r;
  }
  return 0;
}

int ir_size_compare(const ir_size *a, const ir_size *b) {
  if (a == b) return 0;
  if (a->op != b->op) return order(a->op, b->op);
  if (a->op == IR_SIZE_SYMBOL) {
    int r = strcmp(a->name, b->name);
    return r ? r : order(a->index, b->index);
  }
  if (a->count != b->count) return order(a->count, b->count);
  for (uint32_t i = 0; i < a->count; i++) {
    int r = a->op == IR_SIZE_SUM ? compare_factors(&a->terms[i], &b->terms[i]) : ir_size_compare(a->args[i], b->args[i]);
    if (!r && a->op == IR_SIZE_SUM) r = order(a->terms[i].coef, b->terms[i].coef);
    if (r) return r;
  }
  return order(a->value, b->value);
}

// ---- polynomials under construction ---------------------------------------------------------------------------------------

typedef struct poly {
  ir_sizes *c;
  TS_VEC(ir_size_term) terms;   // sorted, no zero coefficients
  int64_t k;
  int64_t error;                // ir_size_error, 0: none
} poly;

static void poly_add_term(poly *p, ir_size_term t) {
  if (t.coef == 0) return;
  size_t at = 0;
  int r = 1;
  while (at < p->terms.count && (r = compare_factors(&p->terms.data[at], &t)) < 0) at++;
  if (at < p->terms.count && r == 0) {
    wide sum = (wide)p->terms.data[at].coef + t.coef;
    if (!fits(sum)) p->error = IR_SIZE_OVERFLOW;
    p->terms.data[at].coef = (int64_t)sum;
    if (sum == 0) {
      memmove(&p->terms.data[at], &p->terms.data[at + 1], (p->terms.count - at - 1) * sizeof t);
      p->terms.count--;
    }
    return;
  }
  if (p->terms.count == IR_SIZE_MAX_TERMS) {
    p->error = IR_SIZE_TOO_LARGE;
    return;
  }
  ts_vec_push(p->c->arena, &p->terms, t);
  memmove(&p->terms.data[at + 1], &p->terms.data[at], (p->terms.count - at - 1) * sizeof t);
  p->terms.data[at] = t;
}

static void poly_add_const(poly *p, wide k) {
  wide sum = p->k + k;
  if (!fits(sum)) p->error = IR_SIZE_OVERFLOW;
  p->k = (int64_t)sum;
}

static ir_size_term term_of_atom(ir_sizes *c, const ir_size *const *atom, int64_t coef) {
  return (ir_size_term){coef, 1, ts_arena_copy(c->arena, atom, sizeof *atom, _Alignof(void *))};
}

// p += scale * factors * s, where `with` gives the factors (NULL: none).
static void poly_add(poly *p, const ir_size *s, int64_t scale, const ir_size_term *with) {
  if (s->op == IR_SIZE_ERROR && !p->error) p->error = s->value;
  if (p->error || scale == 0) return;
  ir_size_term one;
  const ir_size_term *terms = s->terms;
  uint32_t count = s->op == IR_SIZE_SUM ? s->count : 0;
  int64_t k = s->op == IR_SIZE_SUM || s->op == IR_SIZE_CONST ? s->value : 0;
  if (s->op != IR_SIZE_SUM && s->op != IR_SIZE_CONST) one = term_of_atom(p->c, &s, 1), terms = &one, count = 1;
  for (uint32_t i = 0; i < count; i++) {
    ir_size_term t = terms[i];
    if (!ts_mul_i64(t.coef, scale, &t.coef) || t.coef == INT64_MIN) {
      p->error = IR_SIZE_OVERFLOW;
      return;
    }
    if (with && with->count) {
      const ir_size **f = ts_new_array(p->c->arena, const ir_size *, t.count + with->count);
      for (uint32_t a = 0, b = 0; a + b < t.count + with->count;) {
        bool left = b == with->count || (a < t.count && ir_size_compare(t.factors[a], with->factors[b]) <= 0);
        f[a + b] = left ? t.factors[a] : with->factors[b];
        *(left ? &a : &b) += 1;
      }
      t.factors = f;
      t.count += with->count;
    }
    poly_add_term(p, t);
  }
  if (with && with->count)
    poly_add_term(p, (ir_size_term){(int64_t)((wide)k * scale), with->count, with->factors});
  else
    poly_add_const(p, (wide)k * scale);
  if (!fits((wide)k * scale)) p->error = IR_SIZE_OVERFLOW;
}

static poly poly_of(ir_sizes *c, const ir_size *s) {
  poly p = {.c = c};
  poly_add(&p, s, 1, NULL);
  return p;
}

// The factors of t without the one at `at`.
static ir_size_term term_without(ir_sizes *c, const ir_size_term *t, uint32_t at) {
  const ir_size **f = ts_new_array(c->arena, const ir_size *, t->count);
  for (uint32_t i = 0, n = 0; i < t->count; i++)
    if (i != at) f[n++] = t->factors[i];
  return (ir_size_term){t->coef, t->count - 1, f};
}

// Rules across terms, each tried on one factor of one term; true when the polynomial changed (it then has fewer terms or atoms).
//   (q*c) * floordiv(a, c)  = q * a                         when a is a multiple of c
//   q * mod(a, b)           = q * a - q * b * floordiv(a, b)    when that leaves fewer terms
//   (q*c) * floordiv(a, c)  = q * a - q * mod(a, c)             when that leaves fewer terms
static bool poly_rewrite(poly *p, size_t at, uint32_t f) {
  ir_size_term t = p->terms.data[at];
  const ir_size *atom = t.factors[f];
  if (atom->op != IR_SIZE_FLOORDIV && atom->op != IR_SIZE_MOD) return false;
  const ir_size *a = atom->args[0], *b = atom->args[1];
  ir_size_term rest = term_without(p->c, &t, f);
  poly next = {.c = p->c, .k = p->k};
  for (size_t i = 0; i < p->terms.count; i++)
    if (i != at) ts_vec_push(p->c->arena, &next.terms, p->terms.data[i]);
  if (atom->op == IR_SIZE_FLOORDIV) {
    if (b->op != IR_SIZE_CONST || t.coef % b->value) return false;
    bool exact = ir_size_proved_multiple(a, b->value);
    poly_add(&next, a, t.coef / b->value, &rest);
    if (!exact) {
      if (p->terms.count < 2) return false;
      poly_add(&next, ir_size_mod(p->c, a, b), -(t.coef / b->value), &rest);
      if (next.terms.count >= p->terms.count) return false;
    }
  } else {
    if (p->terms.count < 2) return false;
    poly_add(&next, a, t.coef, &rest);
    poly_add(&next, ir_size_mul(p->c, b, ir_size_floordiv(p->c, a, b)), -t.coef, &rest);
    if (next.terms.count >= p->terms.count) return false;
  }
  if (next.error) return false;
  *p = next;
  return true;
}

static bool term_bounds(const ir_size_term *t, int64_t *lo, int64_t *hi) {
  wide l = t->coef, h = t->coef;
  for (uint32_t i = 0; i < t->count; i++) {
    wide v[4] = {l * t->factors[i]->lo, l * t->factors[i]->hi, h * t->factors[i]->lo, h * t->factors[i]->hi};
    l = h = v[0];
    for (int j = 1; j < 4; j++) {
      if (v[j] < l) l = v[j];
      if (v[j] > h) h = v[j];
    }
    if (!fits(l) || !fits(h)) return false;
  }
  *lo = (int64_t)l, *hi = (int64_t)h;
  return true;
}

static const ir_size *poly_finish(poly *p) {
  if (++p->c->work > p->c->work_limit) p->error = IR_SIZE_TOO_LARGE;
  for (bool again = !p->error; again;) {
    again = false;
    for (size_t i = 0; i < p->terms.count && !again; i++)
      for (uint32_t f = 0; f < p->terms.data[i].count && !again; f++) again = poly_rewrite(p, i, f);
  }
  ir_sizes *c = p->c;
  if (p->error) return make_error(c, p->error);
  if (p->terms.count == 0) return ir_size_const(c, p->k);
  if (p->terms.count == 1 && p->k == 0 && p->terms.data[0].coef == 1 && p->terms.data[0].count == 1)
    return p->terms.data[0].factors[0];
  ir_size n = {.op = IR_SIZE_SUM, .count = (uint32_t)p->terms.count, .value = p->k, .terms = p->terms.data};
  wide lo = p->k, hi = p->k;
  class cl = {0, p->k};
  for (size_t i = 0; i < p->terms.count; i++) {
    const ir_size_term *t = &p->terms.data[i];
    int64_t l, h;
    if (!term_bounds(t, &l, &h)) return make_error(c, IR_SIZE_OVERFLOW);
    lo += l, hi += h;
    class tc = {0, t->coef};
    for (uint32_t f = 0; f < t->count; f++) {
      tc = class_mul(tc, class_of(t->factors[f]));
      if (t->factors[f]->klass > n.klass) n.klass = t->factors[f]->klass;
    }
    cl = class_add(cl, tc);
  }
  if (!fits(lo) || !fits(hi)) return make_error(c, IR_SIZE_OVERFLOW);
  n.lo = (int64_t)lo, n.hi = (int64_t)hi, n.step = cl.s, n.residue = cl.r;
  return intern(c, &n);
}

const ir_size *ir_size_add(ir_sizes *c, const ir_size *a, const ir_size *b) {
  poly p = poly_of(c, a);
  poly_add(&p, b, 1, NULL);
  return poly_finish(&p);
}

const ir_size *ir_size_sub(ir_sizes *c, const ir_size *a, const ir_size *b) {
  poly p = poly_of(c, a);
  poly_add(&p, b, -1, NULL);
  return poly_finish(&p);
}

const ir_size *ir_size_mul(ir_sizes *c, const ir_size *a, const ir_size *b) {
  poly p = {.c = c}, left = poly_of(c, a);
  if (left.error) return make_error(c, left.error);
  for (size_t i = 0; i < left.terms.count; i++) poly_add(&p, b, left.terms.data[i].coef, &left.terms.data[i]);
  poly_add(&p, b, left.k, NULL);
  if (b->op == IR_SIZE_ERROR) p.error = b->value;
  return poly_finish(&p);
}

const ir_size *ir_size_add_const(ir_sizes *c, const ir_size *a, int64_t k) {
  poly p = poly_of(c, a);
  poly_add_const(&p, k);
  return poly_finish(&p);
}

const ir_size *ir_size_mul_const(ir_sizes *c, const ir_size *a, int64_t k) { return ir_size_mul(c, a, ir_size_const(c, k)); }

// ---- floordiv and mod -----------------------------------------------------------------------------------------------------

static const ir_size *make_atom(ir_sizes *c, ir_size_op op, const ir_size *const *args, uint32_t count, int64_t lo, int64_t hi,
                                class cl) {
  ir_size n = {.op = op, .count = count, .lo = lo, .hi = hi, .step = cl.s, .residue = cl.r};
  if (lo == hi) return ir_size_const(c, lo);
  for (uint32_t i = 0; i < count; i++)
    if (args[i]->klass > n.klass) n.klass = args[i]->klass;
  n.args = ts_arena_copy(c->arena, args, count * sizeof *args, _Alignof(void *));
  return intern(c, &n);
}

// Bounds of floor(a / b): the quotient is monotone in a, and in b for either sign of a, so the corners decide.
static void quotient_bounds(const ir_size *a, const ir_size *b, int64_t *lo, int64_t *hi) {
  int64_t l1 = ts_floor_div(a->lo, b->lo), l2 = ts_floor_div(a->lo, b->hi);
  int64_t h1 = ts_floor_div(a->hi, b->lo), h2 = ts_floor_div(a->hi, b->hi);
  *lo = l1 < l2 ? l1 : l2;
  *hi = h1 > h2 ? h1 : h2;
}

// For a divisor c, the largest g > 1 dividing c such that a = g * A + R with 0 <= R < g for all values; then
// floordiv(a, c) = floordiv(A, c / g) and mod(a, c) = g * mod(A, c / g) + R. Returns 0 when there is none.
static int64_t split_by_unit(ir_sizes *c, const ir_size *a, int64_t d, const ir_size **out_a, const ir_size **out_r) {
  poly p = poly_of(c, a);
  int64_t best = 0;
  for (size_t i = 0; i < p.terms.count; i++) {
    int64_t g = gcd(p.terms.data[i].coef, d);
    if (g <= 1 || g <= best) continue;
    poly big = {.c = c}, small = {.c = c, .k = ts_floor_mod(p.k, g)};
    big.k = ts_floor_div(p.k, g);
    for (size_t j = 0; j < p.terms.count; j++) {
      ir_size_term t = p.terms.data[j];
      if (t.coef % g == 0) t.coef /= g, poly_add_term(&big, t);
      else poly_add_term(&small, t);
    }
    const ir_size *r = poly_finish(&small);
    if (r->op == IR_SIZE_ERROR || r->lo < 0 || r->hi >= g) continue;
    best = g;
    *out_a = poly_finish(&big);
    *out_r = r;
  }
  return best;
}

static const ir_size *floordiv_const(ir_sizes *c, const ir_size *a, int64_t d) {
  if (a->op == IR_SIZE_ERROR || d == 1) return a;
  const ir_size *db = ir_size_const(c, d);
  int64_t lo = ts_floor_div(a->lo, d), hi = ts_floor_div(a->hi, d);
  if (lo == hi) return ir_size_const(c, lo);
  int64_t g = gcd(a->step, d), shift = g > 1 ? a->residue % g : 0;
  if (shift) return floordiv_const(c, ir_size_add_const(c, a, -shift), d);   // the remainder is known: drop it
  poly p = poly_of(c, a), whole = {.c = c, .k = ts_floor_div(p.k, d)}, rest = {.c = c, .k = ts_floor_mod(p.k, d)};
  for (size_t i = 0; i < p.terms.count; i++) {
    ir_size_term q = p.terms.data[i], r = q;
    q.coef /= d, r.coef %= d;
    poly_add_term(&whole, q);
    poly_add_term(&rest, r);
  }
  if (whole.terms.count || whole.k) {
    const ir_size *q = poly_finish(&whole);
    return ir_size_add(c, q, floordiv_const(c, poly_finish(&rest), d));
  }
  if (p.terms.data[0].coef < 0) {   // -floor((d - 1 - a) / d) is the same; the leading coefficient shall be positive
    const ir_size *negated = ir_size_add_const(c, ir_size_mul_const(c, a, -1), d - 1);
    if (negated->op != IR_SIZE_ERROR) return ir_size_mul_const(c, floordiv_const(c, negated, d), -1);
  }
  const ir_size *big, *small;
  g = split_by_unit(c, a, d, &big, &small);
  if (g) return floordiv_const(c, big, d / g);
  if (p.terms.count == 1 && p.terms.data[0].coef == 1 && p.terms.data[0].count == 1) {
    const ir_size *inner = p.terms.data[0].factors[0];
    int64_t both, k;
    if (inner->op == IR_SIZE_FLOORDIV && inner->args[1]->op == IR_SIZE_CONST && ts_mul_i64(inner->args[1]->value, d, &both) &&
        ts_mul_i64(inner->args[1]->value, p.k, &k))
      return floordiv_const(c, ir_size_add_const(c, inner->args[0], k), both);
  }
  class cl = a->step % d == 0 ? class_make(a->step / d, ts_floor_div(a->residue, d)) : (class){1, 0};
  return make_atom(c, IR_SIZE_FLOORDIV, (const ir_size *[]){a, db}, 2, lo, hi, cl);
}

static const ir_size *mod_const(ir_sizes *c, const ir_size *a, int64_t d) {
  if (a->op == IR_SIZE_ERROR) return a;
  if (a->step % d == 0) return ir_size_const(c, ts_floor_mod(a->residue, d));
  int64_t q = ts_floor_div(a->lo, d);
  if (q == ts_floor_div(a->hi, d)) return ir_size_sub(c, a, ir_size_const(c, q * d));
  poly p = poly_of(c, a), rest = {.c = c, .k = ts_floor_mod(p.k, d)};
  bool changed = rest.k != p.k;
  for (size_t i = 0; i < p.terms.count; i++) {
    ir_size_term t = p.terms.data[i];
    int64_t r = ts_floor_mod(t.coef, d);
    if (r > d / 2) r -= d;   // the residue of least magnitude
    changed |= r != t.coef;
    t.coef = r;
    uint32_t f = 0;   // q * mod(x, e) = q * x modulo d when d divides q * e
    for (; f < t.count; f++) {
      const ir_size *m = t.factors[f];
      if (m->op == IR_SIZE_MOD && m->args[1]->op == IR_SIZE_CONST && (wide)r * m->args[1]->value % d == 0) break;
    }
    if (f < t.count && r) {
      ir_size_term without = term_without(c, &t, f);
      poly_add(&rest, t.factors[f]->args[0], r, &without);
      changed = true;
    } else {
      poly_add_term(&rest, t);
    }
  }
  if (changed) {
    const ir_size *r = poly_finish(&rest);
    if (r->op != IR_SIZE_ERROR) return mod_const(c, r, d);   // an error here only means that the shorter form can't be written
  }
  const ir_size *big, *small;
  int64_t g = split_by_unit(c, a, d, &big, &small);
  if (g) return ir_size_add(c, ir_size_mul_const(c, mod_const(c, big, d / g), g), small);
  g = gcd(a->step, d);
  class cl = g > 1 ? class_make(g, a->residue) : (class){1, 0};
  const ir_size *db = ir_size_const(c, d);
  return make_atom(c, IR_SIZE_MOD, (const ir_size *[]){a, db}, 2, 0, d - 1, cl);
}

// Is every factor of d among those of t (with multiplicity)? Then *out gets the others.
static bool term_divide(ir_sizes *c, const ir_size_term *t, const ir_size_term *d, ir_size_term *out) {
  if (t->count < d->count || t->coef / d->coef == 0) return false;
  const ir_size **f = ts_new_array(c->arena, const ir_size *, t->count);
  uint32_t n = 0, j = 0;
  for (uint32_t i = 0; i < t->count; i++) {
    if (j < d->count && t->factors[i] == d->factors[j]) j++;
    else f[n++] = t->factors[i];
  }
  *out = (ir_size_term){t->coef / d->coef, n, f};
  return j == d->count;
}

// Writes a = q * b + r with r simpler than a, for a divisor with symbols. Returns false when q would be 0.
static bool divide_symbolic(ir_sizes *c, const ir_size *a, const ir_size *b, const ir_size **q, const ir_size **r) {
  poly pa = poly_of(c, a), pb = poly_of(c, b), quotient = {.c = c}, rest = pa;
  for (size_t i = 0; i < pa.terms.count; i++) {
    ir_size_term part;
    if (!term_divide(c, &pa.terms.data[i], &pb.terms.data[0], &part)) continue;
    poly next = {.c = c, .k = rest.k, .error = rest.error};
    for (size_t j = 0; j < rest.terms.count; j++) ts_vec_push(c->arena, &next.terms, rest.terms.data[j]);
    poly_add(&next, b, -part.coef, &part);
    // A remainder of the term itself (5*b by 2*b) may stay; new terms may not come.
    if (next.error || next.terms.count > rest.terms.count) continue;
    if (pb.terms.count + (pb.k != 0) > 1 && next.terms.count == rest.terms.count) continue;
    rest = next;
    if (part.count) poly_add_term(&quotient, part);
    else poly_add_const(&quotient, part.coef);
  }
  if (quotient.error || (quotient.terms.count == 0 && quotient.k == 0)) return false;
  *q = poly_finish(&quotient);
  *r = poly_finish(&rest);
  return (*q)->op != IR_SIZE_ERROR && (*r)->op != IR_SIZE_ERROR;
}

// The common factor of all coefficients of a (without its constant) and of b, divided out of both: 1 when there is none.
static int64_t common_unit(ir_sizes *c, const ir_size **a, const ir_size **b, int64_t *rest) {
  poly pa = poly_of(c, *a), pb = poly_of(c, *b);
  int64_t g = pb.k;
  for (size_t i = 0; i < pa.terms.count; i++) g = gcd(g, pa.terms.data[i].coef);
  for (size_t i = 0; i < pb.terms.count; i++) g = gcd(g, pb.terms.data[i].coef);
  if (g <= 1) return 1;
  for (size_t i = 0; i < pa.terms.count; i++) pa.terms.data[i].coef /= g;
  for (size_t i = 0; i < pb.terms.count; i++) pb.terms.data[i].coef /= g;
  *rest = ts_floor_mod(pa.k, g);
  pa.k = ts_floor_div(pa.k, g);
  pb.k /= g;
  *a = poly_finish(&pa);
  *b = poly_finish(&pb);
  return g;
}

// Is 0 <= a < b proved?
static bool within(ir_sizes *c, const ir_size *a, const ir_size *b) {
  if (a->op == IR_SIZE_MOD && a->args[1] == b) return true;
  return a->lo >= 0 && ir_size_proved_le(c, ir_size_add_const(c, a, 1), b);
}

static const ir_size *divide_error(ir_sizes *c, const ir_size *a, const ir_size *b) {
  if (a->op == IR_SIZE_ERROR) return a;
  if (b->op == IR_SIZE_ERROR) return b;
  return b->lo < 1 ? make_error(c, IR_SIZE_DIVISOR) : NULL;
}

const ir_size *ir_size_floordiv(ir_sizes *c, const ir_size *a, const ir_size *b) {
  const ir_size *e = divide_error(c, a, b);
  if (e) return e;
  if (b->op == IR_SIZE_CONST) return floordiv_const(c, a, b->value);
  int64_t lo, hi, k;
  quotient_bounds(a, b, &lo, &hi);
  if (lo == hi) return ir_size_const(c, lo);
  if (within(c, a, b)) return ir_size_const(c, 0);
  const ir_size *q, *r;
  if (divide_symbolic(c, a, b, &q, &r)) return ir_size_add(c, q, ir_size_floordiv(c, r, b));
  if (common_unit(c, &a, &b, &k) > 1) return ir_size_floordiv(c, a, b);
  return make_atom(c, IR_SIZE_FLOORDIV, (const ir_size *[]){a, b}, 2, lo, hi, (class){1, 0});
}

const ir_size *ir_size_ceildiv(ir_sizes *c, const ir_size *a, const ir_size *b) {
  return ir_size_floordiv(c, ir_size_add_const(c, ir_size_add(c, a, b), -1), b);
}

const ir_size *ir_size_mod(ir_sizes *c, const ir_size *a, const ir_size *b) {
  const ir_size *e = divide_error(c, a, b);
  if (e) return e;
  if (b->op == IR_SIZE_CONST) return mod_const(c, a, b->value);
  int64_t lo, hi, k;
  quotient_bounds(a, b, &lo, &hi);
  if (lo == hi) return ir_size_sub(c, a, ir_size_mul_const(c, b, lo));
  if (within(c, a, b)) return a;
  const ir_size *q, *r;
  if (divide_symbolic(c, a, b, &q, &r)) return ir_size_mod(c, r, b);
  int64_t g = common_unit(c, &a, &b, &k);
  if (g > 1) return ir_size_add_const(c, ir_size_mul_const(c, ir_size_mod(c, a, b), g), k);
  hi = a->lo >= 0 && a->hi < b->hi - 1 ? a->hi : b->hi - 1;
  return make_atom(c, IR_SIZE_MOD, (const ir_size *[]){a, b}, 2, 0, hi, (class){1, 0});
}

const ir_size *ir_size_round_up(ir_sizes *c, const ir_size *a, int64_t multiple) {
  const ir_size *m = ir_size_const(c, multiple);
  return ir_size_mul(c, ir_size_ceildiv(c, a, m), m);
}

// ---- min and max ----------------------------------------------------------------------------------------------------------

static const ir_size *select_extreme(ir_sizes *c, ir_size_op op, const ir_size *a, const ir_size *b) {
  if (a->op == IR_SIZE_ERROR) return a;
  if (b->op == IR_SIZE_ERROR) return b;
  const ir_size *both[2] = {a, b};
  TS_VEC(const ir_size *) list = {0};
  for (int i = 0; i < 2; i++) {
    bool nested = both[i]->op == op;
    for (uint32_t j = 0; j < (nested ? both[i]->count : 1); j++) {
      const ir_size *s = nested ? both[i]->args[j] : both[i];
      bool keep = true;   // drop s, or what s makes pointless
      size_t n = 0;
      for (size_t k = 0; k < list.count; k++) {
        const ir_size *t = list.data[k];
        keep = keep && !(op == IR_SIZE_MIN ? ir_size_proved_le(c, t, s) : ir_size_proved_le(c, s, t));
        if (!keep || !(op == IR_SIZE_MIN ? ir_size_proved_le(c, s, t) : ir_size_proved_le(c, t, s))) list.data[n++] = t;
      }
      list.count = n;
      if (!keep) continue;
      ts_vec_push(c->arena, &list, s);
      for (size_t k = list.count - 1; k > 0 && ir_size_compare(list.data[k - 1], list.data[k]) > 0; k--) {
        const ir_size *t = list.data[k];
        list.data[k] = list.data[k - 1], list.data[k - 1] = t;
      }
    }
  }
  if (list.count == 1) return list.data[0];
  int64_t lo = list.data[0]->lo, hi = list.data[0]->hi;
  class cl = class_of(list.data[0]);
  for (size_t k = 1; k < list.count; k++) {
    const ir_size *s = list.data[k];
    if (op == IR_SIZE_MIN ? s->lo < lo : s->lo > lo) lo = s->lo;
    if (op == IR_SIZE_MIN ? s->hi < hi : s->hi > hi) hi = s->hi;
    cl = class_join(cl, class_of(s));
  }
  return make_atom(c, op, list.data, (uint32_t)list.count, lo, hi, cl);
}

const ir_size *ir_size_min(ir_sizes *c, const ir_size *a, const ir_size *b) { return select_extreme(c, IR_SIZE_MIN, a, b); }
const ir_size *ir_size_max(ir_sizes *c, const ir_size *a, const ir_size *b) { return select_extreme(c, IR_SIZE_MAX, a, b); }

// ---- proofs ---------------------------------------------------------------------------------------------------------------

static bool proved_for_args(ir_sizes *c, const ir_size *split, const ir_size *other, bool split_is_left, bool all) {
  for (uint32_t i = 0; i < split->count; i++) {
    bool ok = split_is_left ? ir_size_proved_le(c, split->args[i], other) : ir_size_proved_le(c, other, split->args[i]);
    if (ok != all) return ok;
  }
  return all;
}

bool ir_size_proved_le(ir_sizes *c, const ir_size *a, const ir_size *b) {
  if (a->op == IR_SIZE_ERROR || b->op == IR_SIZE_ERROR) return false;
  if (a == b || a->hi <= b->lo) return true;
  if (a->lo > b->hi) return false;
  const ir_size *d = ir_size_sub(c, b, a);
  if (d->op != IR_SIZE_ERROR && d->lo >= 0) return true;
  if (a->op == IR_SIZE_MIN && proved_for_args(c, a, b, true, false)) return true;
  if (a->op == IR_SIZE_MAX && proved_for_args(c, a, b, true, true)) return true;
  if (b->op == IR_SIZE_MAX && proved_for_args(c, b, a, false, false)) return true;
  return b->op == IR_SIZE_MIN && proved_for_args(c, b, a, false, true);
}

bool ir_size_proved_multiple(const ir_size *s, int64_t of) {
  return s->op != IR_SIZE_ERROR && s->step % of == 0 && s->residue % of == 0;
}

ts_status ir_size_check(const ir_size *s, const char *what, ts_diags *d, ts_loc loc) {
  if (s->op != IR_SIZE_ERROR) return TS_OK;
  switch ((ir_size_error)s->value) {
    case IR_SIZE_OVERFLOW:
      return ts_report(d, loc, &diag_size_overflow, "%s can exceed 64-bit integers at the bounds of its symbols", what);
    case IR_SIZE_DIVISOR:
      return ts_report(d, loc, &diag_size_divisor,
                       "%s divides by something that can be below 1; give the divisor a minimum of at least 1", what);
    case IR_SIZE_TOO_LARGE:
      return ts_report(d, loc, &diag_size_too_large, "%s has more than %d terms, or takes too long to simplify", what,
                       IR_SIZE_MAX_TERMS);
    case IR_SIZE_BAD_SYMBOL: break;
  }
  return ts_report(d, loc, &diag_size_bounds, "%s has bounds or a step that no value satisfies", what);
}
