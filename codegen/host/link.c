// From objects to one flat image: header, then each object's code and constants, with every reference resolved.
//
// An object holds one function, its constants and perhaps jump tables. All references inside it are relative, so laying its
// sections out one behind the other and adding up distances is all there is to do. Anything else is refused: an undefined symbol
// would need a library, an absolute address a loader, writable data a copy per process.
#include "codegen/host/host.h"

#include "runtime/tsr_format.h"

#include <elf.h>

enum { ENTRY_ALIGN = 64 };

typedef struct object {
  const unsigned char *data;
  size_t bytes;
  uint32_t number;
  const Elf64_Ehdr *head;
  const Elf64_Shdr *sections;
  const Elf64_Sym *symbols;
  size_t symbol_count;
  const char *names;
  size_t names_bytes;
  uint64_t *at;   // by section: place in the image, or 0
  uint64_t entry;
} object;

static ts_status bad(const object *o, ts_diags *d, const char *what) {
  return ts_report(d, (ts_loc){0}, &diag_host_object, "object %u: %s", o->number, what);
}

static bool inside(const object *o, const Elf64_Shdr *s) {
  return s->sh_offset <= o->bytes && s->sh_size <= o->bytes - s->sh_offset;
}
static bool is_loaded(const Elf64_Shdr *s) { return (s->sh_flags & SHF_ALLOC) && s->sh_size && s->sh_type != SHT_X86_64_UNWIND; }

static ts_status open_object(object *o, ts_arena *a, ts_diags *d) {
  o->head = (const Elf64_Ehdr *)o->data;
  if (o->bytes < sizeof *o->head || memcmp(o->head->e_ident, ELFMAG, SELFMAG) || o->head->e_type != ET_REL ||
      o->head->e_machine != EM_X86_64 || o->head->e_shentsize != sizeof(Elf64_Shdr) || o->head->e_shoff % 8 ||
      o->head->e_shoff > o->bytes || o->head->e_shnum > (o->bytes - o->head->e_shoff) / sizeof(Elf64_Shdr))
    return bad(o, d, "not a relocatable x86-64 object");
  o->sections = (const Elf64_Shdr *)(o->data + o->head->e_shoff);
  o->at = ts_new_array(a, uint64_t, (size_t)o->head->e_shnum + 1);
  for (unsigned i = 0; i < o->head->e_shnum; i++) {
    const Elf64_Shdr *s = &o->sections[i];
    if (s->sh_type != SHT_NULL && s->sh_type != SHT_NOBITS && !inside(o, s)) return bad(o, d, "a section leaves the file");
    if (is_loaded(s) && ((s->sh_flags & SHF_WRITE) || s->sh_type != SHT_PROGBITS))
      return bad(o, d, "writable or zero-filled data");
    if (is_loaded(s) && (s->sh_addralign & (s->sh_addralign - 1))) return bad(o, d, "a section's alignment is no power of two");
    if (s->sh_type != SHT_SYMTAB || s->sh_entsize != sizeof(Elf64_Sym) || s->sh_link >= o->head->e_shnum || s->sh_offset % 8)
      continue;
    const Elf64_Shdr *names = &o->sections[s->sh_link];
    o->symbols = (const Elf64_Sym *)(o->data + s->sh_offset);
    o->symbol_count = s->sh_size / sizeof(Elf64_Sym);
    o->names = (const char *)o->data + names->sh_offset;
    o->names_bytes = names->sh_size;
  }
  return o->symbols ? TS_OK : bad(o, d, "no symbol table");
}

static uint64_t align_up(uint64_t v, uint64_t to) { return to > 1 ? (v + to - 1) / to * to : v; }

// Places code (`code` true) or constants behind `end`.
static uint64_t place(object *o, bool code, uint64_t end) {
  for (unsigned i = 0; i < o->head->e_shnum; i++) {
    const Elf64_Shdr *s = &o->sections[i];
    if (!is_loaded(s) || !!(s->sh_flags & SHF_EXECINSTR) != code) continue;
    o->at[i] = align_up(end, code && s->sh_addralign < ENTRY_ALIGN ? ENTRY_ALIGN : s->sh_addralign);
    end = o->at[i] + s->sh_size;
  }
  return end;
}

static ts_status find_entry(object *o, ts_diags *d) {
  unsigned found = 0;
  for (size_t i = 1; i < o->symbol_count; i++) {
    const Elf64_Sym *s = &o->symbols[i];
    if (s->st_shndx == SHN_UNDEF) {
      const char *name = s->st_name < o->names_bytes ? o->names + s->st_name : "";
      return ts_report(d, (ts_loc){0}, &diag_host_object, "object %u needs the symbol %.*s", o->number,
                       (int)strnlen(name, o->names_bytes - (size_t)(name - o->names)), name);
    }
    if (ELF64_ST_TYPE(s->st_info) != STT_FUNC || ELF64_ST_BIND(s->st_info) != STB_GLOBAL) continue;
    if (s->st_shndx >= o->head->e_shnum || !o->at[s->st_shndx]) return bad(o, d, "its function is not in a section of code");
    o->entry = o->at[s->st_shndx] + s->st_value;
    found++;
  }
  return found == 1 ? TS_OK : bad(o, d, "not exactly one function");
}

static ts_status relocate(const object *o, const Elf64_Shdr *s, unsigned char *image, ts_diags *d) {
  const Elf64_Shdr *target = &o->sections[s->sh_info];
  const Elf64_Rela *r = (const Elf64_Rela *)(o->data + s->sh_offset);
  for (size_t n = s->sh_size / sizeof *r; n-- > 0; r++) {
    size_t symbol = ELF64_R_SYM(r->r_info);
    unsigned type = ELF64_R_TYPE(r->r_info), width = type == R_X86_64_PC64 ? 8 : 4;
    if (type != R_X86_64_PC32 && type != R_X86_64_PLT32 && type != R_X86_64_PC64)
      return ts_report(d, (ts_loc){0}, &diag_host_object, "object %u has a relocation of type %u, which is not relative",
                       o->number, type);
    if (symbol >= o->symbol_count || r->r_offset > target->sh_size || target->sh_size - r->r_offset < width)
      return bad(o, d, "a relocation leaves its section");
    const Elf64_Sym *to = &o->symbols[symbol];
    if (to->st_shndx >= o->head->e_shnum || !o->at[to->st_shndx])
      return bad(o, d, "a reference to something that is not in the image");
    uint64_t at = o->at[s->sh_info] + r->r_offset;
    int64_t value = (int64_t)(o->at[to->st_shndx] + to->st_value + (uint64_t)r->r_addend - at);
    if (width == 4 && value != (int32_t)value) return bad(o, d, "a reference reaches too far");
    memcpy(image + at, &value, width);
  }
  return TS_OK;
}

ts_status cgh_link(const cgh_object *objects, uint32_t count, ts_arena *a, ts_diags *d, const unsigned char **out,
                   size_t *out_bytes) {
  object *all = ts_new_array(a, object, (size_t)count + 1);
  uint64_t end = sizeof(tsr_host_image) + (uint64_t)count * sizeof(uint32_t);
  for (uint32_t i = 0; i < count; i++) {
    all[i] = (object){.data = objects[i].data, .bytes = objects[i].bytes, .number = i};
    if ((uintptr_t)objects[i].data % 8) all[i].data = ts_arena_copy(a, objects[i].data, objects[i].bytes, 64);
    TS_TRY(open_object(&all[i], a, d));
    end = place(&all[i], true, end);
  }
  for (uint32_t i = 0; i < count; i++) end = place(&all[i], false, end);
  if (end > INT32_MAX) return ts_report(d, (ts_loc){0}, &diag_host_object, "an image of more than 2 GiB");
  unsigned char *image = ts_arena_alloc(a, (size_t)end, ENTRY_ALIGN);
  memcpy(image, &(tsr_host_image){TSR_IMAGE_MAGIC, count}, sizeof(tsr_host_image));
  for (uint32_t i = 0; i < count; i++) {
    object *o = &all[i];
    TS_TRY(find_entry(o, d));
    uint32_t entry = (uint32_t)o->entry;
    memcpy(image + sizeof(tsr_host_image) + (size_t)i * sizeof entry, &entry, sizeof entry);
    for (unsigned s = 0; s < o->head->e_shnum; s++)
      if (o->at[s]) memcpy(image + o->at[s], o->data + o->sections[s].sh_offset, o->sections[s].sh_size);
    for (unsigned s = 0; s < o->head->e_shnum; s++) {
      const Elf64_Shdr *r = &o->sections[s];
      if ((r->sh_type != SHT_RELA && r->sh_type != SHT_REL) || r->sh_info >= o->head->e_shnum || !o->at[r->sh_info]) continue;
      if (r->sh_type == SHT_REL || r->sh_offset % 8) return bad(o, d, "relocations of an unknown form");
      TS_TRY(relocate(o, r, image, d));
    }
  }
  *out = image;
  *out_bytes = (size_t)end;
  return TS_OK;
}
