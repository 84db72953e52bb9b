/**
 * The domain and the grammar of generated games, in the vocabulary of ALFWorld (predicates, actions,
 * commands), so that whatever plays its games plays these. Written for this project.
 */

/** PDDL: what there is and what an agent can do. */
export const worldDomain = `; Household tasks for one agent among receptacles and objects.
(define (domain alfred)
  (:requirements :adl :typing)
  (:types agent location receptacle object rtype otype)
  (:predicates
    (atLocation ?a - agent ?l - location)
    (receptacleAtLocation ?r - receptacle ?l - location)
    (objectAtLocation ?o - object ?l - location)
    (openable ?r - receptacle)
    (opened ?r - receptacle)
    (inReceptacle ?o - object ?r - receptacle)
    (receptacleType ?r - receptacle ?t - rtype)
    (objectType ?o - object ?t - otype)
    (canContain ?rt - rtype ?ot - otype)
    (holds ?a - agent ?o - object)
    (holdsAny ?a - agent)
    (pickupable ?o - object)
    (cleanable ?o - object)
    (isClean ?o - object)
    (heatable ?o - object)
    (isHot ?o - object)
    (coolable ?o - object)
    (isCool ?o - object)
    (toggleable ?o - object)
    (isToggled ?o - object)
    (checked ?x - object))

  (:action look
    :parameters (?a - agent ?l - location)
    :precondition (atLocation ?a ?l)
    :effect (checked ?l))
  (:action inventory
    :parameters (?a - agent)
    :precondition ()
    :effect (checked ?a))
  (:action examineReceptacle
    :parameters (?a - agent ?r - receptacle)
    :precondition (exists (?l - location) (and (atLocation ?a ?l) (receptacleAtLocation ?r ?l)))
    :effect (checked ?r))
  (:action examineObject
    :parameters (?a - agent ?o - object)
    :precondition (holds ?a ?o)
    :effect (checked ?o))
  (:action GotoLocation
    :parameters (?a - agent ?lStart - location ?lEnd - location ?r - receptacle)
    :precondition (and (atLocation ?a ?lStart) (receptacleAtLocation ?r ?lEnd))
    :effect (and (not (atLocation ?a ?lStart)) (atLocation ?a ?lEnd)))
  (:action OpenObject
    :parameters (?a - agent ?l - location ?r - receptacle)
    :precondition (and (openable ?r) (not (opened ?r))
      (atLocation ?a ?l) (receptacleAtLocation ?r ?l))
    :effect (and (opened ?r) (checked ?r)))
  (:action CloseObject
    :parameters (?a - agent ?l - location ?r - receptacle)
    :precondition (and (openable ?r) (opened ?r) (atLocation ?a ?l) (receptacleAtLocation ?r ?l))
    :effect (not (opened ?r)))
  (:action PickupObject
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition (and (pickupable ?o) (inReceptacle ?o ?r) (not (holdsAny ?a))
      (atLocation ?a ?l) (receptacleAtLocation ?r ?l) (or (not (openable ?r)) (opened ?r)))
    :effect (and (not (inReceptacle ?o ?r)) (not (objectAtLocation ?o ?l))
      (holds ?a ?o) (holdsAny ?a)))
  (:action PutObject
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle ?ot - otype ?rt - rtype)
    :precondition (and (holds ?a ?o) (atLocation ?a ?l) (receptacleAtLocation ?r ?l)
      (or (not (openable ?r)) (opened ?r))
      (objectType ?o ?ot) (receptacleType ?r ?rt) (canContain ?rt ?ot))
    :effect (and (inReceptacle ?o ?r) (objectAtLocation ?o ?l)
      (not (holds ?a ?o)) (not (holdsAny ?a))))
  (:action CleanObject
    :parameters (?a - agent ?l - location ?r - receptacle ?o - object)
    :precondition (and (cleanable ?o) (receptacleType ?r SinkBasinType) (holds ?a ?o)
      (atLocation ?a ?l) (receptacleAtLocation ?r ?l))
    :effect (isClean ?o))
  (:action HeatObject
    :parameters (?a - agent ?l - location ?r - receptacle ?o - object)
    :precondition (and (heatable ?o) (receptacleType ?r MicrowaveType) (holds ?a ?o)
      (atLocation ?a ?l) (receptacleAtLocation ?r ?l))
    :effect (and (isHot ?o) (not (isCool ?o))))
  (:action CoolObject
    :parameters (?a - agent ?l - location ?r - receptacle ?o - object)
    :precondition (and (coolable ?o) (receptacleType ?r FridgeType) (holds ?a ?o)
      (atLocation ?a ?l) (receptacleAtLocation ?r ?l))
    :effect (and (isCool ?o) (not (isHot ?o))))
  (:action ToggleObject
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition (and (toggleable ?o) (inReceptacle ?o ?r)
      (atLocation ?a ?l) (receptacleAtLocation ?r ?l))
    :effect (isToggled ?o)))
`;

/** Rules of text by name, as the grammar's JSON has them. */
type Rules = Record<string, { condition?: string; rhs: string }[]>;

const things = "inreceptacle(o:object, r:receptacle)";
const seen = `[{o.indefinite + ' ' + o.name | ${things}}]`;
const here = "atlocation(a:agent, l:location) & receptacleatlocation(r:receptacle, l:location)";

function rules(task: string): Rules {
  const state = (condition: string, word: string) => ({
    condition,
    rhs: `This is a ${word} {o.name}.`,
  });
  return {
    intro: [{ rhs: "-= Welcome to TextWorld, ALFRED! =-\n\n#look.feedback#\n\n#task#" }],
    task: [{ rhs: `Your task is to: ${task}.` }],
    "look.feedback": [
      {
        condition: here,
        rhs: `You are facing the [{r.name | ${here}}]. Next to it, you see nothing.`,
      },
      {
        rhs: "You are in the middle of a room. Looking quickly around you, you see " +
          "[{r.indefinite + ' ' + r.name | receptacleatlocation(r:receptacle, l:location)}].",
      },
    ],
    "inventory.feedback": [
      {
        condition: "holdsany(a:agent)",
        rhs: "You are carrying: [{o.indefinite + ' ' + o.name | holds(a:agent, o:object)}].",
      },
      { rhs: "You are not carrying anything." },
    ],
    "receptacle": [
      {
        condition: "openable(r:receptacle) & opened(r:receptacle)",
        rhs: `The {r.name} is open. In it, you see ${seen}.`,
      },
      { condition: "openable(r:receptacle)", rhs: "The {r.name} is closed." },
      { rhs: `On the {r.name}, you see ${seen}.` },
    ],
    "goto.feedback": [{ rhs: "You arrive at {r.name}. #receptacle#" }],
    "open.feedback": [{ rhs: "You open the {r.name}. #receptacle#" }],
    "close.feedback": [{ rhs: "You close the {r.name}." }],
    "take.feedback": [{ rhs: "You pick up the {o.name} from the {r.name}." }],
    "put.feedback": [{ rhs: "You move the {o.name} to the {r.name}." }],
    "clean.feedback": [{ rhs: "You clean the {o.name} using the {r.name}." }],
    "heat.feedback": [{ rhs: "You heat the {o.name} using the {r.name}." }],
    "cool.feedback": [{ rhs: "You cool the {o.name} using the {r.name}." }],
    "use.feedback": [{ rhs: "You turn on the {o.name}." }],
    "examine.feedback": [
      state("isclean(o:object) & ishot(o:object)", "hot and clean"),
      state("isclean(o:object) & iscool(o:object)", "cool and clean"),
      state("ishot(o:object)", "hot"),
      state("iscool(o:object)", "cold"),
      state("isclean(o:object)", "clean"),
      { rhs: "There's nothing special about {o.name}." },
    ],
    list_empty: [{ rhs: "nothing" }],
    list_separator: [{ rhs: ", " }],
    list_last_separator: [{ rhs: ", and " }],
  };
}

/** How each action is commanded and which rule answers. */
const actions: readonly (readonly [name: string, template: string, feedback: string])[] = [
  ["look", "look", "look.feedback"],
  ["inventory", "inventory", "inventory.feedback"],
  ["examineReceptacle", "examine {r}", "receptacle"],
  ["examineObject", "examine {o}", "examine.feedback"],
  ["GotoLocation", "go to {r}", "goto.feedback"],
  ["OpenObject", "open {r}", "open.feedback"],
  ["CloseObject", "close {r}", "close.feedback"],
  ["PickupObject", "take {o} from {r}", "take.feedback"],
  ["PutObject", "move {o} to {r}", "put.feedback"],
  ["CleanObject", "clean {o} with {r}", "clean.feedback"],
  ["HeatObject", "heat {o} with {r}", "heat.feedback"],
  ["CoolObject", "cool {o} with {r}", "cool.feedback"],
  ["ToggleObject", "use {o}", "use.feedback"],
];

/** The grammar of a game whose goal is worded as `task`. */
export function worldGrammar(task: string): string {
  const texts = actions.map(([name, template, feedback]) =>
    `action ${name} {\n  template :: "${template}";\n  feedback :: "#${feedback}#";\n}\n`
  );
  return `grammar :: """\n${JSON.stringify(rules(task), null, 2)}\n""";\n\n${texts.join("\n")}`;
}
